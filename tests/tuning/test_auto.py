"""From `snowmelt tune` to ``--method auto``: a plan is taken for what it was tuned for, and nothing else."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt import EMA, Checkpoint, DiffusionSampler, Method, create_ddpm
from snowmelt.cli import app
from snowmelt.cli.tune import summary
from snowmelt.errors import InputError
from snowmelt.plans import make_plan
from snowmelt.sampling.tuned_plans import TunedPlan, plans_folder, read_tuned
from snowmelt.tuning import Job, Outcome, Teacher, Tuned, untuned
from snowmelt.tuning.untuned import Start


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small_model(seed):
    torch.manual_seed(seed)
    options = {"channel_multipliers": [1], "layers_per_block": 1, "norm_groups": 2, "attention_head_dim": 4}
    options |= {"num_timesteps": 20, "beta_end": 0.4}
    model = create_ddpm(image_size=4, in_channels=1, model_channels=4, num_classes=2, **options)
    for parameter in model.parameters():  # an untrained network says nothing: its last layer is 0
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module", autouse=True)
def few_starts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(untuned, "_SOLVERS", untuned._SOLVERS[:2])
        patch.setattr(untuned, "_GRIDS", untuned._GRIDS[:2])
        yield


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A checkpoint with tuned plans of 2 and 3 evaluations for guidance 2, and what was said of them."""
    path = tmp_path_factory.mktemp("tuned") / "model.pth"
    model = small_model(0)
    Checkpoint.of(model, EMA(model)).write(path)
    noises = ["--num", "8", "--held-out", "8"]
    result = run("tune", path, "--nfe", "2,3", "--guidance", "2", *noises, "--method", "levels", "--json")
    assert result.exit_code == 0, result.output
    return path, json.loads(result.stdout)


def sampled(path, method, **options):
    sampler = DiffusionSampler.from_pretrained(path, method=method, **options)
    return sampler, sampler.sample(2, [0, 1], 2.0, seeds=[5, 6])


def test_tune_writes_the_plans_and_pictures_and_says_how_good_they_are(tuned):
    path, figures = tuned
    names = {file.name for file in plans_folder(path).iterdir()}
    plans = {f"nfe{nfe}_guidance2.{kind}" for nfe in (2, 3) for kind in ("json", "png")}
    assert names == plans | {"guidance2.png"}
    assert [plan["nfe"] for plan in figures["plans"]] == [2, 3]
    for plan in figures["plans"]:
        found = read_tuned(plan["file"])
        assert plan["tuned"] == found.distance <= found.untuned_distance == plan["untuned"]
        assert found.provenance["curve"]
        assert found.write(path.parent / "again").read_text() == Path(plan["file"]).read_text()


def test_auto_is_the_tuned_plan_to_the_bit(tuned):
    path, _ = tuned
    sampler, images = sampled(path, "auto:3")
    file = plans_folder(path) / "nfe3_guidance2.json"
    assert sampler.plan == read_tuned(file).plan
    assert torch.equal(images, sampled(path, str(file))[1])
    assert torch.equal(images, sampled(path, Method(table=sampler.plan))[1])
    assert torch.equal(images, sampled(path, Method.parse("auto:3"), guidance_scale=2.0)[1])
    request = sampler.request(2, [0, 1], 2.0, seeds=[5, 6])
    assert sampler.identity(request)["plan"] == json.loads(sampler.plan.to_json())


def test_without_a_number_auto_takes_the_first_that_is_good_enough(tuned, tmp_path):
    path, _ = tuned
    copy = tmp_path / "model.pth"
    copy.write_bytes(path.read_bytes())
    for distances, expected in (((0.2, 0.05), 3), ((0.1, 0.05), 2), ((0.3, 0.2), 3)):
        for nfe, distance in zip((2, 3), distances, strict=True):
            found = read_tuned(plans_folder(path) / f"nfe{nfe}_guidance2.json")
            TunedPlan(found.plan, found.purpose, distance, 1.0, tolerance=0.1).write(plans_folder(copy))
        assert DiffusionSampler.from_pretrained(copy, method="auto").plan.nfe == expected


def test_the_command_line_takes_auto(tuned, tmp_path):
    path, _ = tuned
    out = tmp_path / "x.png"
    result = run("sample", path, "--method", "auto:3", "--guidance", "2", "--num", "2", "--out", out)
    assert result.exit_code == 0, result.output
    assert "3 evaluations" in result.output
    result = run("sample", path, "--method", "auto", "--guidance", "3", "--num", "2", "--out", out)
    assert result.exit_code == 2
    assert "for guidance_scale 2.0, not 3.0" in result.output
    assert f"snowmelt tune {path} --guidance 3" in " ".join(result.output.split())


def test_a_configuration_takes_auto(tuned, tmp_path):
    settings = [f"generation.checkpoint={tuned[0]}", f"output.base_dir={tmp_path}", "compute.device=cpu"]
    settings += ["generation.sampling.sampler={type: auto, steps: 3}", "generation.sampling.num_samples=2"]
    result = run("generate", "-", *settings, "generation.sampling.guidance_scale=2.0", "--dry-run")
    assert result.exit_code == 0, result.output
    result = run("generate", "-", *settings, "generation.sampling.guidance_scale=3.0", "--dry-run")
    assert (result.exit_code, "not 3.0" in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("auto:4", {}, r"those in \S+ take 2 and 3 evaluations"),
        ("auto:3", {"guidance_scale": 0.0}, r"for guidance_scale 2\.0, not 0\.0"),
        ("auto:3", {"use_ema": False}, "for averaged True, not False"),
        ("auto:3", {"threshold": None}, "for threshold clip, not None"),
        ("auto:3", {"guidance": {"type": "cfg", "rescale": 0.5}}, "for guidance "),
    ],
)
def test_what_a_plan_was_not_made_for_is_refused(tuned, method, options, match):
    with pytest.raises(InputError, match=match):
        DiffusionSampler.from_pretrained(tuned[0], method=method, **options)


def test_another_scale_or_other_weights_are_refused_when_images_are_asked_for(tuned):
    sampler = DiffusionSampler.from_pretrained(tuned[0], method="auto:3")
    with pytest.raises(ValueError, match=r"for guidance_scale 2\.0, not 3\.0"):
        sampler.sample(1, [0], 3.0)
    with pytest.raises(ValueError, match="for averaged True, not False"):
        sampler.sample(1, [0], 2.0, use_ema=False)
    assert sampler.with_method("ddim:2").sample(1, [0], 3.0).shape == (1, 1, 4, 4)


def test_a_checkpoint_that_has_changed_is_refused(tuned, tmp_path):
    path = tmp_path / "model.pth"
    model = small_model(1)
    Checkpoint.of(model, EMA(model)).write(path)
    with pytest.raises(InputError, match=r"there is nothing in \S+model\.plans\. Make one: snowmelt tune"):
        DiffusionSampler.from_pretrained(path, method="auto")
    for file in plans_folder(tuned[0]).glob("*.json"):
        read_tuned(file).write(plans_folder(path))
    with pytest.raises(InputError, match="contents have changed since"):
        DiffusionSampler.from_pretrained(path, method="auto")


def test_a_broken_file_is_named(tuned, tmp_path):
    file = tmp_path / "nfe3_guidance2.json"
    file.write_text(make_plan(small_model(0).schedule, "ddim", 3).to_json())
    with pytest.raises(InputError, match=r"nfe3_guidance2\.json is not a tuned plan .*'tuned'"):
        read_tuned(file)
    file.write_text(
        (plans_folder(tuned[0]) / file.name).read_text().replace('"format_version": 1', '"format_version": 9')
    )
    with pytest.raises(InputError, match=r"has format 9"):
        read_tuned(file)


def test_auto_says_what_it_needs():
    with pytest.raises(ValueError, match="there is no checkpoint's file here"):
        DiffusionSampler(small_model(0), method="auto:6")
    with pytest.raises(ValueError, match="complete in itself"):
        Method.parse("auto:6 grid=karras")
    assert str(Method.parse("auto:6")) == "auto:6"
    assert Method.of({"type": "auto", "steps": 6}) == Method.parse("auto:6")


def test_a_stochastic_plan_is_refused(tuned):
    checkpoint = Checkpoint.read(tuned[0])
    sampler = DiffusionSampler.from_pretrained(checkpoint, method="ddim:4 eta=1.0")
    with pytest.raises(InputError, match="deterministic"):
        Job(checkpoint, sampler, [3]).check()


def test_what_is_wrong_is_said_before_any_work(tuned):
    for arguments, said in (
        (["--nfe", "1,4"], "2 evaluations or more"),
        (["--method", "all"], "unknown method 'all'"),
        (["--guidance", "nan"], "must be finite"),
    ):
        result = run("tune", tuned[0], *arguments)
        assert (result.exit_code, said in result.output) == (2, True), result.output


class Edges(torch.nn.Module):
    def forward(self, images):
        return images.diff(dim=-1).flatten(1)


def test_features_of_a_file_decide_in_the_end(tuned, tmp_path):
    file, out = tmp_path / "edges.pt", tmp_path / "plans"
    with warnings.catch_warnings():  # torch announces a successor of TorchScript
        warnings.simplefilter("ignore")
        torch.jit.script(Edges()).save(str(file))
    options = ["--guidance", "2", "--num", "8", "--held-out", "8", "--method", "levels", "--out", out]
    result = run("tune", tuned[0], "--nfe", "3", *options, "--features", file)
    assert result.exit_code == 0, result.output
    assert f"The distances are those of the features {file}." in " ".join(result.output.split("\n"))
    found = read_tuned(out / "nfe3_guidance2.json")
    assert found.provenance["features"].startswith("edges.pt-")
    assert found.provenance["curve"][-1]["stage"] == "features"
    assert found.distance < found.untuned_distance
    sampler = DiffusionSampler.from_pretrained(tuned[0], method=str(out / "nfe3_guidance2.json"))
    assert sampler.sample(1, [0], 2.0).isfinite().all()


def test_features_see_latents_decoded(tuned, tmp_path):
    checkpoint, shapes = Checkpoint.read(tuned[0]), set()
    model = checkpoint.model().with_decoder(torch.nn.Upsample(scale_factor=2))

    def features(images):
        shapes.add(tuple(images.shape[1:]))
        assert images.abs().max() <= 1
        return images.mean(dim=(2, 3))

    job = Job(
        checkpoint, DiffusionSampler(model), [2], 2.0, "levels", "huber", features, 8, 8, folder=tmp_path
    )
    found = job.run().tuned[0]
    assert shapes == {(1, 8, 8)}
    assert found.distance <= found.start_distance


@pytest.mark.parametrize("name", ["classifier", "inception", "other.onnx", "unknown"])
def test_features_that_cannot_lead_a_search_are_refused(tuned, name):
    result = run("tune", tuned[0], "--features", name)
    assert (result.exit_code, name in result.output) == (2, True), result.output
    assert "take imagenet" in " ".join(result.output.split())


def test_ctrl_c_writes_what_was_found(tuned, tmp_path, monkeypatch):
    from snowmelt.tuning import job as job_module

    def interrupted(*arguments, report, **options):
        def stop(step):
            raise KeyboardInterrupt

        return tune(*arguments, report=stop, **options)

    tune = job_module.tune
    monkeypatch.setattr(job_module, "tune", interrupted)
    out = tmp_path / "plans"
    result = run("tune", tuned[0], "--nfe", "2,3", "--num", "8", "--held-out", "8", "--out", out)
    assert result.exit_code == 130
    assert [file.name for file in out.glob("*.json")] == ["nfe2_guidance0.json"]
    assert read_tuned(out / "nfe2_guidance0.json").provenance["interrupted"]


def test_the_summary_says_which_number_to_take():
    method = Method("ddim", 2)
    plan = method.plan(small_model(0).schedule)
    start = Start(0.2, method, plan)
    better, kept = Tuned(plan, 0.1, start, 0.2, (), {}), Tuned(plan, 0.2, start, 0.2, (), {})
    teacher = Teacher(method, plan, 0.0)

    def said(tolerance, *tuned):
        files = [Path("plan.json")] * len(tuned)
        outcome = Outcome(teacher, tolerance, tuned, files, [1.0] * len(tuned), interrupted=False)
        return summary(outcome, Path("model.plans"), "pixels")

    assert "Take 2 evaluations: that is within 0.1500 of the teacher" in said(0.15, better)
    assert "None of them comes within 0.0500" in said(0.05, better)
    assert "Nothing was better than the untuned plan of 2 evaluations, which is kept." in said(0.05, kept)
