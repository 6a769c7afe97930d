"""A job ends with the same bytes however it was stopped, and touches nothing that it has not made."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.errors import InputError
from snowmelt.formats import GRID_NAME, LABELS_NAME, WRITERS, class_numbers, open_images
from snowmelt.generation.job import Job
from snowmelt.generation.manifest import NAME, read_manifest, write_manifest
from snowmelt.generation.report import forecast, inspect
from snowmelt.images import decode_png, save_png, to_uint8

NUM, CLASSES = 14, 3
FORMATS = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def make_sampler(**options) -> DiffusionSampler:
    torch.manual_seed(0)
    model = create_ddpm(8, 1, 8, (1,), num_classes=CLASSES, norm_groups=4, layers_per_block=1)
    return DiffusionSampler(model, **{"solver": "ddim", "steps": 2, "eta": 1.0, "micro_batch": 4, **options})


SAMPLER = make_sampler()


def make_job(folder: Path, name: str | None = "png", num: int = NUM, **changes) -> Job:
    """A job of `num` images in the format `name`; None draws only the grid."""
    sampler = changes.pop("sampler", SAMPLER)
    scale, seeds = changes.pop("guidance_scale", 2.0), changes.pop("seeds", range(num))
    labels = changes.pop("labels", [index % CLASSES for index in range(num)])
    writer = None
    if name is not None:
        names, metadata = class_numbers(CLASSES), {"arguments": "such=and such"}
        writer = WRITERS[name](
            folder, list(seeds), labels, shard_size=4, class_names=names, metadata=metadata
        )
    request = sampler.request(num, labels, scale, seeds=list(seeds))
    return Job(sampler, request, folder, writer, grid_nrow=5, quiet=True, **changes)


def run(job: Job) -> dict[str, bytes]:
    job.check()
    job.run()
    return contents(job.folder)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a job but its manifest, which holds times."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module", params=WRITERS)
def undisturbed(request, tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    return request.param, run(make_job(tmp_path_factory.mktemp(request.param), request.param))


# -- stopped and started -------------------------------------------------------------------------------


def test_the_same_job_again_makes_nothing_and_changes_nothing(tmp_path, undisturbed):
    name, expected = undisturbed
    for images in (NUM, 0):
        assert run(make_job(tmp_path, name)) == expected
        manifest = read_manifest(tmp_path)
        assert manifest["status"] == "complete"
        assert manifest["runs"][-1]["images"] == images


@pytest.mark.parametrize("room", [0, 2, 5])
def test_a_full_disk_loses_nothing(tmp_path, undisturbed, monkeypatch, room):
    name, expected = undisturbed
    left = iter(range(room))

    def full(descriptor):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(make_job(tmp_path, name))
    assert (read_manifest(tmp_path) or {"status": "running"})["status"] == "running"
    assert run(make_job(tmp_path, name)) == expected


def test_images_are_those_of_the_sampler(undisturbed, tmp_path):
    name, _ = undisturbed
    job = make_job(tmp_path, name)
    run(job)
    wanted = to_uint8(SAMPLER.sample(NUM, job.request.class_labels, 2.0, seeds=range(NUM)))
    assert torch.equal(job.writer.written().take(range(NUM)), wanted)
    labels = open_images(tmp_path).labels.tolist()
    assert labels == (
        sorted(job.request.class_labels) if name == "class_folders" else job.writer.class_labels
    )


def test_a_job_may_draw_only_the_grid(tmp_path):
    run(make_job(tmp_path / "all"))
    assert list(run(make_job(tmp_path / "grid", None))) == [GRID_NAME]
    pictures = [(tmp_path / folder / GRID_NAME).read_bytes() for folder in ("all", "grid")]
    assert pictures[0] == pictures[1]
    run(make_job(tmp_path / "grid", None))
    assert [run["images"] for run in read_manifest(tmp_path / "grid")["runs"]] == [NUM, NUM]


# -- whose folder it is --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(make_job(folder))
    return folder


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seeds": range(1, NUM + 1)}, r"seeds: \[0, 1, .* there, \[1, 2, "),
        ({"guidance_scale": 3.0}, "guidance_scale: 2.0 there, 3.0 now"),
        ({"sampler": make_sampler(steps=3)}, "plan.rows"),
        ({"sampler": make_sampler(micro_batch=8)}, "micro_batch: 4 there, 8 now"),
        ({"sampler": make_sampler(guidance="apg")}, "guidance.type"),
        ({"labels": [1] * NUM}, "class_labels: "),
        ({"num": NUM - 1}, f"num_samples: {NUM} there, {NUM - 1} now"),
        ({"name": "npz"}, 'files.format: "png" there, "npz" now'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_settings_are_refused_by_name(finished, change, difference):
    before = contents(finished)
    with pytest.raises(InputError, match=f"(?s)made with other settings.*{difference}.*--overwrite"):
        make_job(finished, **change).check()
    assert contents(finished) == before


@pytest.mark.parametrize("change", [{"guidance_scale": 3.0}, {"num": NUM - 1}, {"name": "npz"}], ids=str)
def test_other_settings_start_anew(tmp_path, change):
    run(make_job(tmp_path / "here"))
    note = tmp_path / "here" / "note.txt"
    note.write_text("mine")
    made = run(make_job(tmp_path / "here", **change, overwrite=True))
    assert made.pop("note.txt") == b"mine"
    assert made == run(make_job(tmp_path / "new", **change))


def test_another_models_images_are_refused(tmp_path):
    run(make_job(tmp_path))
    sampler = make_sampler()
    with torch.no_grad():
        next(sampler.model.parameters()).add_(1.0)
    with pytest.raises(InputError, match="weights: "):
        make_job(tmp_path, sampler=sampler).check()


def test_files_of_unknown_origin_are_not_touched(tmp_path):
    save_png(torch.zeros(1, 8, 8), tmp_path / "sample_0000.png")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"is not empty, and has no manifest\.json"):
        make_job(tmp_path).check()
    assert contents(tmp_path) == before


def test_a_check_leaves_no_trace(tmp_path):
    make_job(tmp_path / "new" / "folder").check()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot be written to .*take another output folder"):
        make_job(tmp_path / "file" / "folder").check()


@FORMATS
def test_a_new_start_removes_what_an_older_version_has_written(tmp_path, name):
    """Its manifest says how many classes there were, and names them only if they have names."""
    run(make_job(tmp_path, name))
    manifest = read_manifest(tmp_path)
    manifest["identity"]["files"] |= {"num_classes": CLASSES, "class_names": None}
    write_manifest(tmp_path, manifest)
    other = "npz" if name == "png" else "png"
    assert run(make_job(tmp_path, other, overwrite=True)) == run(make_job(tmp_path / "new", other))


def test_a_broken_manifest_goes_with_a_new_start(tmp_path):
    expected = run(make_job(tmp_path))
    (tmp_path / NAME).write_text("{")
    with pytest.raises(InputError, match="--overwrite"):
        make_job(tmp_path).check()
    assert run(make_job(tmp_path, overwrite=True)) == expected


# -- what its reader sees ------------------------------------------------------------------------------


def test_an_estimate_is_of_what_is_left(tmp_path):
    job = make_job(tmp_path, batch_size=3)
    whole = job.estimate()
    assert (whole.images, whole.batches, whole.batch_size) == (NUM, 7, 3)  # 4, 4, 4 and 2 in threes
    assert whole.evaluations == 2 * job.sampler.plan.nfe, "guidance calls the network twice"
    assert whole.seconds > 0
    assert whole.bytes > 2**20
    run(job)
    (tmp_path / job.writer.location(5)).unlink()
    assert job.estimate()[:2] == (4, 2)
    assert replace(job, overwrite=True).estimate()[:2] == (NUM, 7)
    text = forecast(job).text
    assert "images:   4 (and 10 that exist already)" in text
    assert "NFE:      2 an image, 4 with those of guidance" in text


def test_the_manifest_compares_the_estimate_with_what_it_took(tmp_path):
    run(make_job(tmp_path, arguments={"asked": "for"}))
    manifest = json.loads((tmp_path / NAME).read_text())
    (run_,) = manifest["runs"]
    assert run_["expected_seconds"] > 0
    assert run_["seconds"] > 0
    assert manifest["arguments"] == {"asked": "for"}


def test_a_model_that_has_diverged_is_said(tmp_path):
    sampler = make_sampler()
    for parameter in sampler.model.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"hold NaN.*take an earlier checkpoint"):
        run(make_job(tmp_path, sampler=sampler))
    assert not list(tmp_path.glob("*.png"))


def test_what_the_model_cannot_make_is_found_before_any_work(tmp_path):
    job = make_job(tmp_path, None)
    with pytest.raises(InputError, match="guidance_scale 2 needs class_labels"):
        replace(job, request=replace(job.request, class_labels=None)).check()


def test_an_image_and_a_folder_say_how_they_were_made(tmp_path):
    run(make_job(tmp_path, arguments={"generation": {"checkpoint": "model.pth"}}))
    text = inspect(tmp_path / "sample_0004.png").text
    assert "snowmelt generate - such=and such" in text
    assert "generation.sampling.seeds=[4]' 'generation.sampling.class_counts={1: 1}'" in text
    for path in (tmp_path, tmp_path / NAME):
        text = inspect(path).text
        for fact in ("complete", f"{NUM}", "ddim, 2 evaluations", "cfg, scale 2", "model.pth", "1 finished"):
            assert fact in text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        (".", "has no manifest.json: it was not written by snowmelt generate"),
        ("text.png", "text.png cannot be read as a PNG file"),
        ("image.png", "image.png does not say how it was made"),
    ],
)
def test_other_files_are_not_inspected(tmp_path, path, message):
    (tmp_path / "text.png").write_text("no picture")
    save_png(torch.zeros(1, 8, 8), tmp_path / "image.png")
    with pytest.raises(InputError, match=message):
        inspect(tmp_path / path)


def test_the_picture_names_the_classes(tmp_path):
    pictures = {}
    for names in (None, ["ant", "bee", "cat"], ["ant", "bee", "dog"]):
        run(make_job(tmp_path / str(names), class_names=names))
        pictures[str(names)] = (tmp_path / str(names) / GRID_NAME).read_bytes()
    assert len(set(pictures.values())) == 3
    sampler = DiffusionSampler(create_ddpm(8, 1, 8, (1,), norm_groups=4, layers_per_block=1), method="ddim:1")
    Job(sampler, sampler.request(1, seeds=[0]), tmp_path, None, grid_nrow=1, quiet=True).run()
    plain, _ = decode_png((tmp_path / GRID_NAME).read_bytes())
    image = to_uint8(sampler.sample(1, seeds=[0])[0])
    enlarged = image.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(plain, enlarged.expand(3, -1, -1)), "nothing but the image"


def test_the_picture_shows_some_of_many_and_the_list_names_all(tmp_path, monkeypatch):
    monkeypatch.setattr("snowmelt.generation.job.GRID_LIMIT", 5)
    run(make_job(tmp_path))
    shown, _ = decode_png((tmp_path / GRID_NAME).read_bytes())
    assert shown.shape[2] == 5 * (4 * 8 + 2) + 2, "five images in a row, enlarged to be readable"
    assert len((tmp_path / LABELS_NAME).read_text().splitlines()) == 1 + NUM
