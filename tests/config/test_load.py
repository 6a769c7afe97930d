"""Files, overrides and messages: what loads, what is refused, and what the refusal says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from snowmelt.config import Config, ConfigError, load_config, resolve_output_path, save_config
from snowmelt.config.schema import known_keys
from snowmelt.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs" / "diffusion"
TRAIN = "data: {paths: {train: digits}}\n"
GENERATE = "mode: generate\ngeneration: {checkpoint: m.pth}\n"
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


BOMB = "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 64))


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a text (or bytes) to a file and loads it with overrides."""

    def load(text, *overrides):
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, overrides)

    return load


@pytest.fixture
def problems(load):
    """Return a function that loads what must be refused, and gives the problems that the message lists."""

    def problems(text, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        head, *lines = str(caught.value).split("\n  ")
        assert head.endswith("config.yaml cannot be used:")
        return lines

    return problems


# ---------------------------------------------------------------------------------------------------
# What loads
# ---------------------------------------------------------------------------------------------------


def test_the_smallest_generate_file(load):
    """The file that the specification of generation mode shows."""
    text = """
    mode: generate # This triggers generation mode

    generation:
      checkpoint: outputs/diffusion/checkpoints/best_model.pth
      sampling:
        num_samples: 100
        guidance_scale: 3.0
        use_ema: true # Will properly handle missing EMA now
    """
    config = load(text)
    assert config.generation.sampling.model_dump(exclude_unset=True) == {
        "num_samples": 100,
        "guidance_scale": 3.0,
        "use_ema": True,
    }
    assert config.model.model_fields_set == set()


def test_a_file_with_only_the_specified_keys(load):
    text = """
    experiment: diffusion
    mode: train
    compute: {device: cuda, seed: 42}
    model:
      architecture: {image_size: 64, in_channels: 3, model_channels: 64, channel_multipliers: [1, 2, 4],
                     use_attention: [false, false, true]}
      diffusion: {num_timesteps: 1000, beta_schedule: cosine, beta_start: 1e-4, beta_end: 0.02}
      conditioning: {type: null, num_classes: null, class_dropout_prob: 0.1}
    data:
      paths: {train: data/train, val: data/val}
      loading: {batch_size: 32, num_workers: 4, pin_memory: true, shuffle_train: true, drop_last: false}
      augmentation:
        horizontal_flip: true
        rotation_degrees: 10
        color_jitter: {enabled: true, strength: 0.1}
    output:
      base_dir: out
      subdirs: {logs: l, checkpoints: c, samples: s, generated: g}
    training:
      epochs: 200
      optimizer: {type: adam, learning_rate: 1e-4, weight_decay: 0, betas: [0.9, 0.999],
                  gradient_clip_norm: null}
      scheduler: {type: null, T_max: 100, eta_min: 1e-6}
      ema: {enabled: true, decay: 0.9999}
      checkpointing: {save_frequency: 10, save_best_only: false, save_optimizer: true}
      validation: {enabled: true, frequency: 1, metric: loss}
      visualization: {enabled: true, interval: 10, num_samples: 16, guidance_scale: 3.0}
      performance: {use_amp: true, use_tf32: true, cudnn_benchmark: true, compile_model: false}
      resume: {enabled: false, checkpoint: null, reset_optimizer: false, reset_scheduler: false}
    generation:
      checkpoint: null
      sampling: {num_samples: 100, guidance_scale: 3.0, use_ema: true}
      output: {save_individual: true, save_grid: true, grid_nrow: 10}
    """
    with pytest.warns(UserWarning, match="use_amp has moved: write compute.precision=auto"):
        config = load(text)
    assert config.compute.precision == "auto"
    assert config.training.optimizer.learning_rate == 1e-4
    assert config.training.optimizer.betas == (0.9, 0.999)
    assert config.data.augmentation.rotation_degrees == 10.0
    assert (config.training.scheduler.type, config.model.conditioning.type) == ("none", "none")


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CONFIGS.glob("*.yaml")) if "compare" not in path.name],
    ids=lambda path: path.name,
)
def test_every_shipped_file_loads(path):
    assert load_config(path).mode == ("generate" if "generate" in path.name else "train")


def test_the_default_file_states_every_key_and_its_default():
    stated = OmegaConf.load(CONFIGS / "default.yaml")
    for key, _ in known_keys():
        parent = key.rpartition(".")[0]
        if not parent or OmegaConf.select(stated, parent) is not None:  # some sections are null by default
            assert OmegaConf.select(stated, key, default=KeyError) is not KeyError, key
    config = load_config(CONFIGS / "default.yaml")
    assert config == Config.model_validate({"data": {"paths": {"train": config.data.paths.train}}})


def test_overrides_win_and_the_last_one_counts(load):
    config = load(TRAIN + "training: {epochs: 3}", "training.epochs=5", "training.epochs=7", "compute.seed=1")
    assert (config.training.epochs, config.compute.seed, config.data.paths.train) == (7, 1, "digits")


def test_a_list_is_replaced_as_a_whole(load):
    config = load(TRAIN, "model.architecture.channel_multipliers=[4]")
    assert config.model.architecture.channel_multipliers == [4]


def test_an_override_can_add_a_solver_option(load):
    text = "mode: generate\ngeneration: {checkpoint: m.pth, sampling: {sampler: null}}"
    sampling = load(text, "generation.sampling.sampler.eta=0.5").generation.sampling
    assert sampling.method == {"eta": 0.5}


def test_interpolations_see_overrides(load):
    assert load(TRAIN, "experiment=cats").output.base_dir == "outputs/cats"
    config = load(TRAIN + "output: {base_dir: 'runs/${experiment}'}", "experiment=cats")
    assert resolve_output_path(config, "checkpoints") == Path("runs/cats/checkpoints")


def test_unknown_output_path(load):
    with pytest.raises(ValueError, match="one of logs, checkpoints, samples, generated, got 'pictures'"):
        resolve_output_path(load(TRAIN), "pictures")


# ---------------------------------------------------------------------------------------------------
# Laws
# ---------------------------------------------------------------------------------------------------

WORDS = st.text("abcXYZ019 _-./:#'\"&*!%@é☃", min_size=1)
CHANGES = st.fixed_dictionaries(
    {"mode": st.sampled_from(["train", "generate"])},
    optional={
        "experiment": WORDS | st.sampled_from(["null", "1e-3", "on", "~", "2024-01-01", "0x10", " "]),
        "output.base_dir": WORDS,
        "compute.seed": st.integers(0, 2**63),
        "training.optimizer.learning_rate": st.floats(1e-12, 1e3),
        "training.optimizer.betas": st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2).map(list),
        "training.scheduler.T_max": st.just("auto") | st.integers(1, 10**6),
        "training.scheduler.type": st.sampled_from([None, "none", "cosine"]),
        "model.architecture.channel_multipliers": st.lists(st.integers(1, 8), min_size=1, max_size=16),
        "model.architecture.attention_head_dim": st.none() | st.integers(1, 64),
        "generation.sampling.guidance_scale": st.floats(allow_nan=False, allow_infinity=False),
        "generation.sampling.sampler.eta": st.floats(0, 1),
    },
)


def config_of(changes):
    tree = OmegaConf.create({"data": {"paths": {"train": "x"}}, "generation": {"checkpoint": "m.pth"}})
    for key, value in changes.items():
        OmegaConf.update(tree, key, value)
    return Config.model_validate(OmegaConf.to_container(tree))


@in_one_folder
@given(CHANGES)
def test_what_is_saved_loads_as_the_same(tmp_path, changes):
    config = config_of(changes)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@in_one_folder
@given(CHANGES)
def test_an_override_is_a_line_of_the_file(tmp_path, changes):
    (tmp_path / "empty.yaml").write_text(
        "data: {paths: {train: x}}\ngeneration: {checkpoint: m.pth}", encoding="utf-8"
    )
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]  # JSON is YAML
    assert load_config(tmp_path / "empty.yaml", overrides) == config_of(changes)


def test_to_generate_the_model_is_saved_as_stated(load, tmp_path):
    config = load(GENERATE + "model: {architecture: {image_size: 8}}")
    save_config(config, tmp_path / "saved.yaml")
    again = load_config(tmp_path / "saved.yaml")
    assert again.model.model_dump(exclude_unset=True) == {"architecture": {"image_size": 8}}


def test_loading_configurations_loads_no_torch():
    code = "import sys, snowmelt.config; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------


def test_config_errors_are_input_errors():
    assert issubclass(ConfigError, InputError)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be used:\n  no such file; give the path"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(ConfigError, match="it cannot be read: "):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode: [train", r"not valid YAML: .*line 1"),
        ("a: 1\nb: 2\na: 3", r"not valid YAML: .*duplicate key a.*line 3"),
        (b"\x80\x02model", r"not valid YAML: .*utf-8"),
        ("- mode: train", "expected keys with values, .* got a YAML seq"),
        ("train", "expected keys with values, .* got a YAML str"),
        (
            TRAIN + "output: {base_dir: '${nothing}'}",
            r"output\.base_dir: Interpolation key 'nothing' not found",
        ),
        ("experiment: &a [*a]", "not valid YAML: an alias refers to the section or list around it"),
        ("experiment: " + "[" * 60 + "]" * 60, "not valid YAML: sections and lists are nested more than 50"),
        ("experiment: " + "[" * 3000, "not valid YAML: sections and lists are nested too deeply"),
        ("a0: &a0 [1, 1]\n" + BOMB, r"not valid YAML: with its aliases it has [\d,]+ values"),
        ("compute: {seed: !!float x}", "not valid YAML: could not convert string to float: 'x'"),
        ("compute: {seed: !!int ''}", "not valid YAML: a value does not fit its tag"),
        ("compute: {seed: !!timestamp x}", "not valid YAML: a value does not fit its tag"),
        (TRAIN + "output: {base_dir: '${output.base_dir}'}", ".*(refers to itself|nterpolation)"),
        (
            TRAIN + "output: {base_dir: 'a${experiment}b'}\nexperiment: '${output.base_dir}'",
            ".*(refers to itself|nterpolation)",
        ),
        (TRAIN + "output: '${output}'", ".*(refers to itself|nterpolation)"),
        (TRAIN + "output: {base_dir: '???'}", r"output\.base_dir: Missing mandatory value"),
    ],
)
def test_what_is_no_configuration(problems, text, message):
    assert re.match(f"(it is )?{message}", " ".join(problems(text)), re.DOTALL)


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME}",
        "a${oc.env:HOME}b",
        "${oc.decode:'[1]'}",
        "${${experiment}:x}",
        "${oc.env:${experiment}}",
    ],
)
def test_nothing_from_outside_is_resolved(problems, text):
    """A checkpoint keeps the configuration: the environment of its maker is not to be in it."""
    (found,) = problems(TRAIN + f"output: {{base_dir: {json.dumps(text)}}}")
    assert found.startswith("output.base_dir: given ${")
    assert "something other than this file" in found
    (found,) = problems(TRAIN, f"output.base_dir={json.dumps(text)}")
    assert found.startswith("output.base_dir: given ${")


def test_a_colon_behind_an_interpolation_asks_for_nothing(load):
    config = load(TRAIN + "output: {base_dir: 'c:/${experiment}:${experiment}'}", "experiment=cats")
    assert config.output.base_dir == "c:/cats:cats"


def test_messages_are_short(problems):
    (found,) = problems(TRAIN, f"training.ema.enabled={'a' * 10_000}")
    assert len(found) < 500
    assert len(problems(TRAIN + "".join(f"x{i}: 1\n" for i in range(1000)))) == 21


@pytest.mark.parametrize("number", [10**6, 10**400])
@pytest.mark.parametrize(
    "key",
    [
        "model.architecture.image_size",
        "model.architecture.model_channels",
        "model.architecture.layers_per_block",
        "model.diffusion.num_timesteps",
        "model.conditioning.num_classes",
        "data.loading.batch_size",
        "data.loading.num_workers",
        "generation.sampling.micro_batch",
        "generation.sampling.sampler.steps",
    ],
)
def test_sizes_that_no_machine_holds(problems, key, number):
    (found,) = problems(TRAIN, f"{key}={number}")
    assert found.startswith(f"{key}: given 1000")


@pytest.mark.parametrize(
    "override", ["", "epochs", "=5", "training.=5", ".epochs=5", "training..epochs=5", "a b=5"]
)
def test_malformed_overrides(problems, override):
    expected = f"override {override!r}: expected key.sub=value, such as training.epochs=5"
    assert problems(TRAIN, "compute.seed=1", override) == [expected]


def test_an_override_whose_value_is_not_yaml(problems):
    assert problems(TRAIN, "training.epochs=[1")[0].startswith("override 'training.epochs=[1': ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trainin: 1", "trainin: unknown key; did you mean training? (line 2)"),
        ("training:\n  epoch: 1", "training.epoch: unknown key; did you mean training.epochs? (line 3)"),
        ("epochs: 1", "epochs: unknown key; did you mean training.epochs? (line 2)"),
        ("output: {zzz: 1}", "output.zzz: unknown key; known here: base_dir, subdirs (line 2)"),
        (
            "3: 4",
            "3: unknown key; known here: experiment, mode, compute, model, data, output, ",
        ),
        (
            "generation: {sampling: {sampler: {solver: ddim}}}",
            "generation.sampling.sampler.solver: unknown key; known here: type, steps, grid (line 2)",
        ),
        (
            "generation: {sampling: {sampler: {step: 4}}}",
            "generation.sampling.sampler.step: unknown key; did you mean generation.sampling.sampler.steps?",
        ),
    ],
)
def test_unknown_keys_name_the_nearest(problems, text, problem):
    (found,) = problems(TRAIN + text)
    assert found.startswith(problem)


def test_an_override_inside_of_a_list(problems):
    expected = ["an override names keys of a section where the file has a list"]
    assert problems("data: []", "data.paths.train=digits") == expected


def test_unknown_key_of_an_override(problems):
    (found,) = problems(TRAIN, "training.epoch=1")
    assert found == "training.epoch: unknown key; did you mean training.epochs? (override training.epoch=1)"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mode=test", "'train' or 'generate'"),
        ("experiment=", "a valid string"),
        ("compute.device=tpu", "auto, cpu, cuda, cuda:N or mps"),
        ("compute.seed=-1", "greater than or equal to 0"),
        ("training=5", "keys with values"),
        ("training.epochs=0", "greater than 0"),
        ("training.epochs=1.5", "a valid integer"),
        ("training.epochs=true", "a valid integer"),
        ("training.epochs='5'", "a valid integer"),
        ("training.optimizer.type=lion", "'adam', 'adamw', 'sgd', 'muon' or 'schedule_free_adamw'"),
        ("training.optimizer.learning_rate=.nan", "a finite number"),
        ("training.optimizer.learning_rate=0", "greater than 0"),
        ("training.optimizer.betas=[0.9]", "a list of two numbers from 0 to below 1"),
        ("training.optimizer.betas=[0.9,1.0]", "a list of two numbers from 0 to below 1"),
        ("training.optimizer.gradient_clip_norm=0", "a positive number, or null not to clip"),
        ("training.scheduler.T_max=never", "auto, or a number of epochs from 1"),
        ("training.scheduler.type=step", "'none', 'constant', 'cosine', 'linear', 'inverse_sqrt' or 'wsd'"),
        ("training.images=0", "greater than 0"),
        ("training.accumulation=0", "greater than 0"),
        ("training.scheduler.decay=1.5", "less than or equal to 1"),
        ("training.scheduler.warmup=-1", "images from 0 to 10^12, or null for a fiftieth of the run"),
        ("training.scheduler.decay=0.3", "the type wsd as well, not linear, which has no such number"),
        ("training.scheduler.tau=100", "the type inverse_sqrt as well, not linear"),
        ("training.resume.checkpoint=a.pth", "resume.enabled: true as well, or null"),
        ("training.loss.options={gamma: 3}", "the weighting that they belong to as well"),
        ("training.loss.weighting=snr", "uniform, min_snr, truncated_snr, p2, edm, sigmoid, or null"),
        ("training.times.distribution=normal", "uniform, log_normal, logit_normal, or null for"),
        ("training.times.shift=0", "greater than 0"),
        ("training.times.stratified=true", "a distribution as well: uniform, log_normal or logit_normal"),
        ("training.ema.decay=1", "less than 1"),
        ("training.validation.metric=fidd", "'loss', 'c2st'"),
        ("training.evaluation.metrics=[]", "a list of metrics, such as [kid, recall]"),
        ("training.evaluation.num_samples=1", "greater than or equal to 2"),
        ("data.loading.num_workers=-1", "greater than or equal to 0"),
        ("data.augmentation.rotation_degrees=181", "less than or equal to 180"),
        ("data.augmentation.conditioned=true", "a change that the network is told of"),
        ("data.augmentation.fill=rainbow", "a colour, such as white"),
        ("model.architecture.dropout=1", "less than 1"),
        (
            "model.architecture.use_attention=[1]",
            "true, false, a list of them, one for each stage, or a side",
        ),
        ("model.architecture.use_attention=[true]", "3 entries, one for each of the channel_multipliers"),
        ("model.architecture.channel_multipliers=[]", "a list of positive integers, one for each stage"),
        ("model.architecture.channel_multipliers=[1,0]", "a list of positive integers, one for each stage"),
        ("model.diffusion.num_timesteps=1", "greater than or equal to 2"),
        ("model.diffusion.beta_end=0.0001", "more than beta_start, which is 0.0001"),
        ("model.conditioning.type=text", "'none' or 'class'"),
        (
            "model.conditioning.num_classes=-1",
            "a number of classes up to 100,000, 0 for none, or null for those of the data",
        ),
        ("model.architecture.image_size=[32]", "the side of square images, or [height, width], in pixels"),
        (
            "model.architecture.image_size=[32,1000000]",
            "the side of square images, or [height, width], in pixels, up to 8,192",
        ),
        ("model.architecture.attention_head_dim=1000000", "a positive integer up to 65,536, or null"),
        (
            "model.architecture.channel_multipliers=[1000000]",
            "a list of positive integers, one for each stage, of at most 16, each up to 65,536",
        ),
        ("data.background=whitish", "a colour, such as white, black or '#808080'"),
        ("data.background='#ff000080'", "a colour, such as white, black or '#808080'"),
        ("output.subdirs.logs=''", "at least 1 character"),
        ("generation.sampling.num_samples=0", "greater than 0"),
        ("generation.sampling.guidance_scale=.inf", "a finite number"),
        ("generation.sampling.sampler.steps=0", "a number from 1 to 100,000, or all (or null) for"),
    ],
)
def test_values_out_of_range_say_what_was_expected(problems, override, expected):
    key = override.partition("=")[0]
    (found,) = problems(TRAIN, override)
    assert re.match(rf"{re.escape(key)}: given .+, expected {re.escape(expected)}", found)
    assert found.endswith(f" (override {override})")


def test_a_default_can_contradict_a_stated_value(problems):
    (found,) = problems(TRAIN + "model: {diffusion: {beta_start: 0.5}}")
    assert found == "model.diffusion.beta_end: given 0.02, expected more than beta_start, which is 0.5"


@pytest.mark.parametrize("value", ["null", "''"])
def test_training_needs_images(problems, value):
    (found,) = problems(f"data: {{paths: {{train: {value}}}}}")
    assert found.startswith("data.paths.train: missing, expected a folder of images")
    assert problems("") == problems("mode: train")


def test_generating_needs_a_checkpoint_and_no_images(problems, load):
    (found,) = problems("mode: generate")
    assert found.startswith("generation.checkpoint: missing, expected the path of a checkpoint")
    assert load(GENERATE).data.paths.train is None


def test_all_problems_are_listed_at_once(problems):
    found = problems("mode: train\ncompute: {sed: 1}\ntraining: {epochs: 0}", "model.diffusion.beta_end=2")
    assert {line.partition(":")[0] for line in found} == {
        "compute.sed",
        "training.epochs",
        "model.diffusion.beta_end",
        "data.paths.train",
    }
