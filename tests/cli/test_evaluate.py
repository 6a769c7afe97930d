"""`snowmelt evaluate`: it prints and writes what the library computes, and says what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from snowmelt import EMA, Checkpoint, DiffusionSampler, create_ddpm
from snowmelt.cli import app
from snowmelt.evaluation import evaluate, extract_features, make_extractor, open_images
from snowmelt.evaluation.answers import job, scores
from snowmelt.evaluation.features import small_classifier
from snowmelt.images import save_png
from snowmelt.models.checkpoint_file import read_contents, write_contents

DIGITS = ("--real", "digits:test", "--extractor", "pixels", "--quiet", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint of digits' shape, and images of its own in class folders."""
    folder = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=10, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
    )
    contents = {"model_config": model.config, "model_state_dict": model.state_dict()}
    write_contents({**contents, "class_names": [str(i) for i in range(10)]}, folder / "model.pth")
    for label in (3, 5):  # folders of some classes only: their names say which
        for i in range(12):
            save_png(torch.rand(1, 8, 8) * 2 - 1, folder / "images" / str(label) / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(scores, "LEAST_OF_A_CLASS", 2)


def run(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_the_figures_are_those_of_the_library(folder, tmp_path):
    output = done(folder / "images", *DIGITS, "--metrics", "fid,precision", "--out", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    pixels = make_extractor("pixels")
    generated, real = (
        extract_features(open_images(path), pixels) for path in (folder / "images", "digits:test")
    )
    expected = evaluate(generated, real, metrics=["fid", "precision"], per_class=False)
    assert written["overall"] == expected.to_dict()["overall"]
    assert str(expected.overall["fid"]) in output
    assert list(written["per_class"]) == ["3", "5"]  # by name, though they are the folder's classes 0 and 1
    assert written["per_class"]["5"]["precision"]["n_real"] == 37
    assert written["ladder"]["count"] == 24
    assert "How sure: " in output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ladder.png", "metrics.json", "metrics.png", "report.html", "side_by_side.png",
    ]  # fmt: skip
    assert "images, 24 images" in output


def test_a_checkpoint_is_sampled_in_the_classes_of_the_real_images(folder, tmp_path):
    arguments = ("--num-samples", 36, "--solver", "ddim", "--steps", 2, "--no-ema", "--guidance", 1.5)
    once = done(folder / "model.pth", *DIGITS, *arguments, "--metrics", "kid", "--out", tmp_path / "out")
    assert "by ddim in 2 evaluations, 36 images" in once
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    shares = {name: each["kid"]["n_generated"] for name, each in written["per_class"].items()}
    real = open_images("digits:test").labels.bincount().tolist()
    assert all(abs(shares[str(label)] - count / 10) < 1 for label, count in enumerate(real))
    again = done(folder / "model.pth", *DIGITS, *arguments, "--metrics", "kid", "--no-cache")
    assert once.replace(f"\nWrote {tmp_path / 'out'}\n", "").strip() == again.strip()


def test_no_ema_judges_the_standard_weights(folder, tmp_path):
    arguments = ("--num-samples", 12, "--method", "ddim:2", "--metrics", "fid", "--no-classes", "--no-cache")
    checkpoint, path = Checkpoint.read(folder / "model.pth"), tmp_path / "model.pth"
    checkpoint.write(path)

    def fid(*more: str) -> float:
        result = run(path, *DIGITS, *arguments, "--json", *more)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["overall"]["fid"]["value"]

    plain = fid("--no-ema")
    ema = EMA(checkpoint.model())
    for value in ema.shadow.values():
        value.normal_()
    replace(checkpoint, ema=ema.state_dict()).write(path)
    assert fid("--no-ema") == plain
    assert fid() != plain


def test_what_was_made_and_computed_is_kept(folder, tmp_path):
    arguments = (
        folder / "model.pth",
        *DIGITS,
        "--no-ladder",
        "--num-samples",
        20,
        "--solver",
        "ddim",
        "--steps",
        2,
    )
    once = done(*arguments, "--no-ema", "--metrics", "fid,precision", "--cache", tmp_path / "kept")
    names = [path.name.split(".", 1)[1] for path in (tmp_path / "kept").iterdir()]
    assert sorted(names) == ["images.npy", "moments.npy", "npy", "npy", "radii-3.npy"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert done(*arguments, "--no-ema", "--metrics", "fid,precision", "--cache", tmp_path / "kept") == once
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert not (tmp_path / "user").exists()


def test_the_classifier_is_trained_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(small_classifier, "LEAST_STEPS", 5)
    monkeypatch.setattr(small_classifier, "LEAST_PASSES", 0)
    arguments = ("--real", "digits:test", "--device", "cpu", "--metrics", "inception_score", "--no-classes")
    output = done(folder / "images", *arguments, "--quiet", "--extractor", "classifier", "--no-ladder")
    assert "classifier-" in output
    assert "inception_score" in output
    assert "Class by class" not in output
    assert list((tmp_path / "user" / "snowmelt").glob("classifier-*.safetensors"))


def test_statistics_stand_for_real_images(folder, tmp_path):
    pixels = make_extractor("pixels")
    extract_features(open_images("digits:test"), pixels).moments.save(tmp_path / "stats.npz")
    arguments = (folder / "images", "--extractor", "pixels", "--quiet", "--device", "cpu", "--no-cache")
    output = done(*arguments, "--real", tmp_path / "stats.npz")
    assert "statistics of 360 images" in output
    fids = [
        next(line for line in text.splitlines() if line.startswith("fid ")).split()[1]
        for text in (output, done(*arguments, "--real", "digits:test"))
    ]
    assert fids[0] == fids[1]


def test_new_useful_and_selected(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(small_classifier, "LEAST_STEPS", 2)
    monkeypatch.setattr(small_classifier, "LEAST_PASSES", 0)
    out = tmp_path / "out"
    arguments = ("--train", "digits:test", "--held-out", "digits:train", "--useful", "--select", "top_k=5")
    output = done(folder / "images", *DIGITS, "--metrics", "fid", *arguments, "--out", out)
    written = json.loads((out / "metrics.json").read_text())
    rate = written["novelty"]["features"]["copy_rate"]["value"]
    assert f"{rate:.1%} of the generated images are copies" in output
    assert written["usefulness"]["answer"] in output
    assert written["usefulness"]["generated_images"]["3"] == 12
    assert (out / "closest_pairs.png").exists()
    assert "Is it useful" in (out / "report.html").read_text()
    with (out / "selected" / "selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == written["selection"]["indices"]
    assert len(rows) == 10  # five of each class
    assert len(open_images(out / "selected")) == 10
    again = run(folder / "images", *DIGITS, "--metrics", "fid", "--select", "top_k=5", "--out", out)
    assert again.exit_code == 2
    assert "selected is there already and not empty" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/nothing"], "nothing is neither a file nor a folder"),
        (["{}/images", "--metrics", "fid,fidd"], "there is no metric fidd; did you mean fid?"),
        (["{}/images", "--extractor", "resnet"], "there is no extractor resnet"),
        (
            ["{}/images", "--extractor", "pixels", "--weights", "x.pth"],
            "takes no weights: leave --weights out",
        ),
        (["{}/images", "--image-size", "16", "--extractor", "{}/none.pt"], "none.pt cannot be read"),
        (["{}/images", "--channels", "2"], "--channels is 1 (gray) or 3 (colour)"),
        (["{}/images", "--useful"], "give --held-out"),
        (["{}/images", "--select", "best=3", "--out", "{}/out"], "one of top_k, percentile, threshold"),
        (["{}/images", "--select", "top_k=many"], "--select takes RULE=NUMBER"),
        (["{}/images", "--select", "top_k=3"], "writes into --out"),
        (["{}/model.pth", "--solver", "dimm"], "did you mean 'ddim'"),
        (["{}/none.pth"], "none.pth"),
    ],
)
def test_nonsense_is_one_message_and_exit_code_2(folder, tmp_path, arguments, message):
    result = run(*(argument.format(folder) for argument in arguments), *DIGITS[:2], "--quiet", "--no-ema")
    assert result.exit_code == 2, (result.output, result.exception)
    assert message in result.output


def test_all_images_are_brought_to_the_shape_of_the_generated_ones(folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 12, 3), np.uint8)
    np.savez(tmp_path / "wide.npz", arr_0=pixels)
    real = np.random.default_rng(1).integers(0, 256, (20, 24, 24, 1), np.uint8)
    np.savez(tmp_path / "real.npz", arr_0=real)
    common = ("--real", tmp_path / "real.npz", *DIGITS[2:], "--no-cache")
    output = done(tmp_path / "wide.npz", *common, "--metrics", "fid,kid")
    assert "6 x 12 pixels, in colour" in output
    stated = done(
        tmp_path / "wide.npz", *common, "--metrics", "fid,kid", "--image-size", "6,12", "--channels", 3
    )
    assert stated == output
    assert "8 x 8 pixels, gray" in done(
        tmp_path / "wide.npz", *common, "--metrics", "fid", "--image-size", 8, "--channels", 1
    )


@pytest.mark.parametrize("spoil", ["size", "bytes"])
def test_no_classifier_is_trained_for_images_that_cannot_be_judged(folder, tmp_path, monkeypatch, spoil):
    monkeypatch.setattr(
        small_classifier, "train_classifier", lambda *_, **__: pytest.fail("a classifier was trained")
    )
    shutil.copytree(folder / "images", tmp_path / "images")
    last = tmp_path / "images" / "5" / "9.png"
    last.write_bytes(b"-") if spoil == "bytes" else save_png(torch.zeros(1, 9, 8), last)
    arguments = ("--real", "digits:test", "--device", "cpu", "--quiet", "--extractor", "classifier")
    result = run(tmp_path / "images", *arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "9.png" in result.output


def test_the_default_sees_and_needs_no_network(folder):
    arguments = ("--real", folder / "images", "--metrics", "kid", "--no-ladder", "--no-classes", "--quiet")
    output = done(folder / "images", *arguments, "--device", "cpu")
    assert "extractor  imagenet-" in output


def test_a_report_that_cannot_be_written_is_refused_before_any_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "extract_features", lambda *_, **__: pytest.fail("work was done"))
    (tmp_path / "file").write_text("no folder")
    result = run(folder / "images", *DIGITS, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2, (result.output, result.exception)
    assert "out cannot be written to" in result.output


def test_what_cannot_be_judged_is_refused_before_an_image_is_sampled(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(DiffusionSampler, "batches", lambda *_, **__: pytest.fail("an image was sampled"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)
    np.savez(tmp_path / "unlabelled.npz", arr_0=pixels[:, :8, :8])
    model, unlabelled = folder / "model.pth", tmp_path / "unlabelled.npz"
    common = ("--no-ema", "--quiet", "--device", "cpu")
    for arguments, message in (
        ((*DIGITS[:4], "--image-size", "16"), "all images must have one shape"),
        (("--real", unlabelled, "--extractor", "classifier"), "give labelled images"),
        (
            (*DIGITS[:4], "--held-out", unlabelled, "--useful"),
            "unlabelled.npz has no labels, which the classifiers learn",
        ),
        ((*DIGITS[:4], "--select", "percentile=0", "--out", tmp_path), "percentile must lie in"),
        ((*DIGITS[:4], "--guidance", "nan"), "guidance_scale must be finite"),
    ):
        result = run(model, *arguments, *common)
        assert result.exit_code == 2, (result.output, result.exception)
        assert message in result.output


def test_statistics_do_for_nothing_else(folder, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(64), sigma=np.eye(64))
    common = (folder / "images", "--real", tmp_path / "stats.npz", "--quiet")
    for arguments, message in (
        (("--extractor", "classifier"), "give --train"),
        (("--extractor", "pixels", "--held-out", "digits:test"), "give these as --train"),
        (("--extractor", "pixels", "--select", "top_k=3", "--out", tmp_path), "compares with real images"),
    ):
        result = run(*common, *arguments)
        assert result.exit_code == 2, (result.output, result.exception)
        assert message in result.output


def test_training_measures_what_it_makes_and_keeps_the_best(tmp_path):
    overrides = [
        "compute.device=cpu",
        "data.paths.train=digits:test",
        f"output.base_dir={tmp_path}",
        "model.architecture={image_size: 8, in_channels: 1, model_channels: 8, channel_multipliers: [1, 2]}",
        "model.architecture.norm_groups=4",
        "model.diffusion.num_timesteps=10",
        "model.conditioning.num_classes=10",
        "training.epochs=3",
        "training.visualization.enabled=false",
        "training.validation.metric=recall",
        "training.evaluation={enabled: true, frequency: 2, metrics: [fid, recall], num_samples: 20}",
        "training.evaluation.extractor=pixels",
    ]
    result = CliRunner().invoke(app, ["train", "-", *overrides])
    assert result.exit_code == 0, (result.output, result.exception)
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["eval_fid"]) for row in rows] == [False, True, True]
    recalls = {int(row["epoch"]): float(row["eval_recall"]) for row in rows[1:]}
    best = read_contents(tmp_path / "checkpoints" / "best_model.pth")
    assert best["epoch"] == max(recalls, key=recalls.get)
    assert best["best_metric"] == max(recalls.values())
