"""`snowmelt augment`: from a few unequal classes to an answer and a data set, however often it is stopped."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt.augment import STAGES
from snowmelt.augment.stages.generate import lacking
from snowmelt.augment.stages.select import chosen_sets
from snowmelt.cli import app
from snowmelt.evaluation.learning.learners import LinearHead
from snowmelt.formats import open_images
from snowmelt.images import encode_png
from snowmelt.training.proposal import propose
from snowmelt.tuning import Job

COUNTS = {"dots": 40, "lines": 40, "rings": 15}
WORDS = [
    "extractor=pixels",
    "compute.device=cpu",
    "train.compute.precision=fp32",
    "train.training.steps=2",
    "train.model.architecture.model_channels=16",
    "tune={num_samples: 20, guidance_scales: [1.0, 2.0], method: 'ddim:2', nfe: 2}",
    "generate.ratios=[1.0]",
    "select.copies=0.05",
    "judge={seeds: 2, steps: 1}",
]


def images(folder: Path, seed: int = 0) -> Path:
    """Write noise of three kinds, class by class."""
    random = torch.Generator().manual_seed(seed)
    for number, (name, count) in enumerate(COUNTS.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = torch.randint(80 * number, 80 * number + 90, (1, 8, 8), generator=random)
            (folder / name / f"{index:03d}.png").write_bytes(encode_png(image.to(torch.uint8)))
    return folder


def augment(data: Path | str, out: Path, *words: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["augment", str(data), "--out", str(out), *words])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module", autouse=True)
def fast():
    """A machine that is not measured, few noises to tune with, and a classifier with one setting."""
    with pytest.MonkeyPatch.context() as patch:
        quick = partial(propose, speed=lambda spec, batch_size, device: 1000.0)
        patch.setattr("snowmelt.augment.job.propose", quick)
        few = partial(Job, num_noises=4, num_held_out=4)
        patch.setattr("snowmelt.augment.stages.tune.Tuning", few)
        patch.setattr(LinearHead, "strengths", (0.1,))
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> tuple[Path, Path, str]:
    """The images, the folder of a job that is done, and what it said."""
    work = tmp_path_factory.mktemp("augment")
    data = images(work / "data")
    return data, work / "out", augment(data, work / "out", *WORDS)


def files(folder: Path) -> dict[str, bytes]:
    """Return everything but the run's own records, which hold times."""
    found = (path for path in folder.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != "manifest.json"
    }


def test_the_report_begins_with_the_answer_and_shows_every_seed(job):
    _, out, said = job
    page = (out / "report.html").read_text()
    answer = json.loads((out / "stages" / "judge.json").read_text())["answer"]
    assert page.index("The answer") < page.index(answer) < page.index("Every seed")
    assert answer in said
    seeds = page[page.index("Every seed") : page.index("The images")]
    judged = json.loads((out / "stages" / "judge.json").read_text())
    for arm in (judged["arms"][judged[name]] for name in ("baseline", "with_generated")):
        assert len(arm["by_seed"]) == 2
        assert all(f"{100 * each['balanced_accuracy']:.1f}" in seeds for each in arm["by_seed"])


def test_a_model_that_has_learned_nothing_helps_nobody(job):
    """The negative control: two steps of training."""
    assert "A benefit was shown" not in job[2]


def test_the_data_set_holds_each_real_image_once_and_the_chosen_ones(job):
    _, out, _ = job
    with (out / "dataset" / "provenance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    judged = json.loads((out / "stages" / "judge.json").read_text())
    assert Counter(row["origin"] for row in rows) == {
        "real": sum(COUNTS.values()),
        "generated": len(judged["indices"]),
    }
    assert all(row["file"].startswith("train/") for row in rows if row["origin"] == "generated")
    parts = json.loads((out / "split.json").read_text())["images"]
    for row in rows:
        if row["origin"] == "real":
            assert row["file"].split("/")[0] == parts[row["source"]]
    source = open_images(out / "dataset")
    assert (len(source), source.class_names) == (len(rows), list(COUNTS))
    assert set(source.part_names()) == {"train", "val", "test"}


def test_what_is_done_is_not_done_again(job):
    data, out, _ = job
    before = files(out)
    result = CliRunner().invoke(app, ["augment", str(data), "--out", str(out), "--json"])
    assert result.stderr.count("(done)") == len(STAGES)
    assert list(json.loads(result.stdout)["stages"]) == list(STAGES)
    assert files(out) == before


@pytest.mark.parametrize("name", ["look", "generate"])
def test_a_job_that_was_killed_goes_on_to_the_same_files(job, name, tmp_path):
    """A stage that has begun, and everything after it is missing or half done."""
    data, done, _ = job
    out = tmp_path / "out"
    shutil.copytree(done, out)
    for path in (out / "train.yaml", out / "generate.yaml"):  # they name the folder
        path.write_text(path.read_text().replace(str(done), str(out)))
    begun = out / "stages" / f"{name}.done.json"
    record = json.loads(begun.read_text())
    begun.write_text(json.dumps({**record, "found": None}))
    shutil.rmtree(out / "dataset")
    if name == "generate":
        next((out / "generated").rglob("*.png")).unlink()
    first = augment(data, out)
    assert first.count("(done)") < len(STAGES)
    assert augment(data, out).count("(done)") == len(STAGES)
    assert (out / "answer.png").read_bytes() == (done / "answer.png").read_bytes()
    assert json.loads((out / "stages" / "judge.json").read_text()) == json.loads(
        (done / "stages" / "judge.json").read_text()
    )


def test_a_changed_setting_runs_again_what_depends_on_it(job, tmp_path):
    data, done, _ = job
    out = tmp_path / "out"
    shutil.copytree(done, out)
    said = augment(data, out, "judge.seeds=3")
    assert [line for line in said.splitlines() if line.startswith("[") and "(done)" not in line] == [
        "[7/8] judge: whether they help a classifier",
        "[8/8] dataset: images for the next training",
    ]


def test_the_test_images_decide_nothing_before_the_judgement(job, tmp_path):
    """Other images in their place change no model, no guidance and no selection."""
    data, done, _ = job
    other = tmp_path / "data"
    shutil.copytree(data, other)
    parts = json.loads((done / "split.json").read_text())["images"]
    for item, part in parts.items():
        if part == "test":
            noise = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8)
            next(other.rglob(Path(item).parent.name + "/" + Path(item).name)).write_bytes(encode_png(noise))
    with (other / "list.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "split"])
        table.writerows([item, Path(item).parent.name, part] for item, part in parts.items())
    out = tmp_path / "out"
    augment(other / "list.csv", out, *WORDS)
    for name in ("tune", "select"):
        assert json.loads((out / "stages" / f"{name}.json").read_text()) == json.loads(
            (done / "stages" / f"{name}.json").read_text()
        )
    assert (out / "stages" / "judge.json").read_text() != (done / "stages" / "judge.json").read_text()


def test_a_dry_run_says_what_every_stage_will_do_and_writes_nothing(job, tmp_path):
    said = augment(job[0], tmp_path / "out", "--dry-run", *WORDS)
    assert [line.partition(":")[0] for line in said.splitlines() if line.partition(":")[0] in STAGES] == [
        *STAGES
    ]
    assert "rings" in said
    assert not (tmp_path / "out").exists()


def test_what_cannot_work_is_said_before_anything_is_done(job, tmp_path):
    data, out, _ = job
    assert "belongs to a job with" in augment("digits", out, exit_code=2)
    assert "there is no stage paint" in augment(data, out, "--from", "paint", exit_code=2)
    assert "exclude each other" in augment(data, out, "--from", "look", "--only", "train", exit_code=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    assert "is not empty and has no augment.yaml" in augment(data, tmp_path / "full", exit_code=2)
    assert "comes before judge" in augment(data, tmp_path / "new", "--only", "judge", *WORDS, exit_code=2)
    assert "expected a time such as 90s" in augment(data, tmp_path / "never", "--budget", "soon", exit_code=2)
    shutil.copytree(data, tmp_path / "one", ignore=lambda *_: ["lines", "rings"])
    assert "no two classes" in augment(tmp_path / "one", tmp_path / "two", exit_code=2)
    shutil.copytree(
        data, tmp_path / "few", ignore=lambda *_: [f"0{n}{m}.png" for n in "123" for m in range(10)]
    )
    assert "are needed: give more images" in augment(tmp_path / "few", tmp_path / "three", exit_code=2)
    assert not (tmp_path / "three").exists()


def test_classes_that_lack_nothing_need_a_larger_ratio(tmp_path):
    data = images(tmp_path / "data")
    shutil.rmtree(data / "rings")
    said = augment(data, tmp_path / "out", "--dry-run", "generate.ratios=[0.5]", *WORDS[:1], exit_code=2)
    assert "raise generate.ratios" in said


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_sets_hold_the_nearest_images_that_each_class_lacks(share):
    random = torch.Generator().manual_seed(0)
    counts, labels = [50, 20, 5], torch.arange(3).repeat_interleave(torch.tensor([0, 60, 90]))
    distances = torch.rand(150, generator=random)
    copies = torch.rand(150, generator=random) < 0.1
    sets = chosen_sets(labels, distances, copies, counts, [0.5, 1.0], [share])
    for ratio, chosen in zip([0.5, 1.0], sets.values(), strict=True):
        assert not copies[chosen].any()
        for label, lack in enumerate(lacking(counts, ratio)):
            looked_at = (labels == label).nonzero().flatten()[: round(lack / share)].tolist()
            kept = [index for index in chosen if labels[index] == label]
            left = [index for index in looked_at if index not in kept and not copies[index]]
            assert len(kept) <= lack
            assert set(kept) <= set(looked_at)
            assert max(distances[kept], default=0) <= min(distances[left], default=1)
