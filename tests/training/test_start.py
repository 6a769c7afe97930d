"""`training.init`: a run starts from somebody's model and its options, and some layers learn otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from snowmelt import Checkpoint, create_ddpm
from snowmelt.config import Config, load_config
from snowmelt.errors import InputError
from snowmelt.training.run import TrainingRun

CPU = torch.device("cpu")
SMALL = {
    "layers_per_block": 1,
    "norm_groups": 2,
    "attention_head_dim": 4,
    "num_timesteps": 20,
    "beta_end": 0.3,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A trained model with an option that configurations have no key for."""
    torch.manual_seed(1)
    model = create_ddpm(8, 1, 4, (1,), num_classes=10, parameterization="v", mid_attention=False, **SMALL)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    path = tmp_path_factory.mktemp("start") / "source.pth"
    Checkpoint.of(model, class_names=[str(digit) for digit in range(10)]).write(path)
    return path


def make_run(folder: Path, init, model=None, **training) -> TrainingRun:
    settings = {
        "compute": {"precision": "fp32"},
        "model": model or {},
        "data": {"paths": {"train": "digits:test"}, "loading": {"batch_size": 360}},
        "output": {"base_dir": str(folder)},
        "training": {
            "init": init,
            "epochs": 2,
            "optimizer": {
                "type": "sgd",
                "learning_rate": 0.5,
                "betas": [0.0, 0.0],
                "gradient_clip_norm": None,
            },
            "scheduler": {"type": "none", "warmup": 0},
            "ema": {"decay": 0.5},
            "visualization": {"enabled": False},
            **training,
        },
    }
    return TrainingRun(Config.model_validate(settings), CPU)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(run: TrainingRun, share: float = 0.0) -> dict[str, torch.Tensor]:
    """Return how far a step at this share of the run moves each parameter."""
    trainer = run.trainer
    trainer.progress.images = trainer.progress.global_step = 0
    trainer.progress.images = int(share * trainer.length.amount * 360)
    trainer.progress.epoch = int(share * trainer.length.amount)
    before = weights(trainer.model)
    next(iter(trainer.steps()))
    after = weights(trainer.model)
    return {name.removeprefix("network."): after[name] - before[name] for name in before}


# -- the model -----------------------------------------------------------------------------------------


def test_the_file_says_what_the_configuration_leaves_out(source, tmp_path):
    run = make_run(tmp_path, str(source), {"conditioning": {"class_dropout_prob": 0.3}})
    spec, there = run.trainer.model.spec, Checkpoint.read(source).spec
    assert run.trainer.model.network.config == there.make_network().config
    assert (spec.schedule, spec.parameterization) == (there.schedule, "v")
    assert spec.schedule_options == there.schedule_options
    assert spec.class_dropout_prob == 0.3
    assert run.config.model.architecture.image_size == 8  # what the data is cut to
    assert run.config.model.diffusion.parameterization == "v"
    loaded, given = run.trainer.model.state_dict(), Checkpoint.read(source).weights
    assert all(torch.equal(loaded[name], given[name]) for name in given)
    assert all(torch.equal(run.trainer.ema.shadow[name], given[name]) for name in given)
    assert run.trainer.progress.images == 0


def test_the_file_may_be_a_folder_of_diffusers(source, tmp_path):
    from snowmelt.models.diffusers.folder import write_folder

    write_folder(Checkpoint.read(source), tmp_path / "folder", use_ema=False)
    run = make_run(tmp_path / "out", str(tmp_path / "folder"))
    loaded, given = run.trainer.model.state_dict(), Checkpoint.read(source).weights
    assert all(torch.equal(loaded[name], given[name]) for name in given)


def test_stated_keys_change_the_model_on_purpose(source, tmp_path, capsys):
    diffusion = {"schedule": "flow", "parameterization": "flow"}
    run = make_run(tmp_path, str(source), {"architecture": {"image_size": 12}, "diffusion": diffusion})
    run.check()
    spec = run.trainer.model.spec
    assert (spec.schedule, spec.schedule_options, spec.image_size) == ("flow", {}, (12, 12))
    said = capsys.readouterr().out
    for line in ("tensors fit", "10 kept by name", "Image size: 8 x 8 there, 12 x 12 now", "learn anew"):
        assert line in said


def test_another_type_of_network_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="the model to start from is a unet"):
        make_run(tmp_path, str(source), {"architecture": {"type": "dit"}}).check()


def test_the_short_form_is_a_path(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {paths: {train: digits}}\ntraining: {init: {path: a.pth, classes: {0: cat, 1: 7}}}\n"
    )
    init = load_config(path).training.init
    assert init.classes == {"0": "cat", "1": 7}
    assert load_config(path, ["training.init=b.pth"]).training.init.path == "b.pth"


def test_a_resumed_run_needs_the_file_no_more(source, tmp_path):
    """It ends with the bits of a run that was not interrupted, frozen layers and rates included."""
    init = {"path": str(tmp_path / "copy.pth"), "freeze": ["conv_in"], "rates": {"up_blocks": 0.5}}
    (tmp_path / "copy.pth").write_bytes(source.read_bytes())
    make_run(tmp_path / "whole", init).run()
    make_run(tmp_path / "parts", init, epochs=1).run()
    (tmp_path / "copy.pth").unlink()
    again = make_run(tmp_path / "parts", init, resume={"enabled": True})
    again.check()
    again.run()
    ends = [Checkpoint.read(tmp_path / name / "checkpoints" / "latest.pth") for name in ("whole", "parts")]
    assert all(torch.equal(ends[0].weights[name], ends[1].weights[name]) for name in ends[0].weights)
    given = Checkpoint.read(source).weights
    kept = [name for name in given if torch.equal(given[name], ends[0].weights[name])]
    assert kept == ["network.conv_in.weight", "network.conv_in.bias"]
    assert all(torch.equal(ends[0].ema["shadow"][name], given[name]) for name in kept)


# -- layers --------------------------------------------------------------------------------------------


def test_the_folder_of_a_run_means_its_latest_checkpoint(source, tmp_path):
    latest = tmp_path / "old" / "checkpoints" / "latest.pth"
    latest.parent.mkdir(parents=True)
    latest.write_bytes(source.read_bytes())
    paths = (tmp_path / "old", latest.parent, latest)
    models = [make_run(tmp_path, str(path)).config.model for path in paths]
    assert models[0] == models[1] == models[2]


def test_rates_multiply_the_learning_rate(source, tmp_path):
    plain = moved(make_run(tmp_path, str(source)))
    init = {"path": str(source), "freeze": ["*.norm1.*"], "rates": {"up_blocks": 0.5, "*.conv2.*": 0.25}}
    run = make_run(tmp_path, init)
    changed = moved(run)
    for name, change in plain.items():
        factor = 0.25 if ".conv2." in name else 0.5 if name.startswith("up_blocks") else 1.0
        factor = 0.0 if ".norm1." in name else factor
        torch.testing.assert_close(changed[name], factor * change, atol=1e-7, rtol=1e-4, msg=name)
    learning = {parameter for group in run.trainer.optimizer.param_groups for parameter in group["params"]}
    assert learning == {parameter for parameter in run.trainer.model.parameters() if parameter.requires_grad}


def test_layers_may_begin_later(source, tmp_path):
    init = {"path": str(source), "rates": {"conv_in": 0.5}, "unfreeze": {"conv_in": 0.5}}
    early = moved(make_run(tmp_path, init))
    assert not early["conv_in.weight"].any()
    assert early["conv_out.weight"].any()
    late, plain = moved(make_run(tmp_path, init), 0.5), moved(make_run(tmp_path, str(source)), 0.5)
    torch.testing.assert_close(late["conv_in.weight"], 0.5 * plain["conv_in.weight"], atol=1e-7, rtol=1e-4)


def test_muon_keeps_its_two_kinds_of_groups(source, tmp_path):
    init = {"path": str(source), "rates": {"up_blocks": 0.1}}
    optimizer = {"type": "muon", "learning_rate": 0.01}
    run = make_run(tmp_path, init, optimizer=optimizer)
    kinds = [(group["orthogonal"], group["lr"]) for group in run.trainer.optimizer.param_groups]
    assert kinds == [(True, 0.01), (True, 0.001), (False, 0.01), (False, 0.001)]
    moved(run)


@pytest.mark.parametrize(
    ("init", "problem"),
    [
        ({"freeze": ["down_block"]}, "freeze: down_block matches no parameter .* down_blocks"),
        ({"rates": {"conv_im": 2.0}}, "rates: conv_im matches no parameter .* conv_in"),
        ({"unfreeze": {"xyz": 0.5}}, "unfreeze: xyz matches no parameter"),
        ({"freeze": ["*"]}, "nothing is left to learn"),
        (
            {"freeze": ["conv_in"], "rates": {"conv_in": 5.0}},
            "rates: all that conv_in matches is frozen already",
        ),
        (
            {"freeze": ["conv_in", "conv_in.weight"]},
            "freeze: all that conv_in.weight matches is frozen already",
        ),
    ],
)
def test_a_pattern_must_match_something(source, tmp_path, init, problem):
    with pytest.raises(InputError, match=problem):
        make_run(tmp_path, {"path": str(source), **init}).check()
