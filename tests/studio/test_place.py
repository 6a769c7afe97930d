"""What the page may see, and what it may not; and the models that are kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from snowmelt import DiffusionSampler
from snowmelt.errors import InputError
from snowmelt.plans import Method, write_plan
from snowmelt.studio import place as place_module
from snowmelt.studio.place import Place

NAME = "run/checkpoints/latest.pth"


def test_checkpoints_are_listed_newest_first_and_only_those_below(tmp_path):
    root = tmp_path / "outputs"
    for age, name in enumerate(["old.pth", "a/new.pth", ".hidden/no.pth", "pipe/model_index.json"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        os.utime(root / name, (age, age))
    os.utime(root / "pipe", (9, 9))
    (root / "pipe" / "weights.safetensors").touch()  # a part of the pipeline
    (tmp_path / "outside.pth").touch()
    safetensors.torch.save_file({"w": torch.ones(1)}, root / "classifier.safetensors")  # samples nothing
    (root / "link.pth").symlink_to(tmp_path / "outside.pth")
    assert Place(root).checkpoints() == ["pipe", "a/new.pth", "old.pth"]
    assert Place(root / "old.pth").checkpoints() == ["old.pth"]


@pytest.fixture
def links(outputs, tmp_path) -> Path:
    """A folder with links that lead out of it, and in circles."""
    root = tmp_path / "outputs"
    shutil.copytree(outputs, root)
    (tmp_path / "secret.json").write_text("{}")
    (root / "link").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    return root


@pytest.mark.parametrize(
    "name",
    ["../secret.json", "run/../../secret.json", "link/secret.json", "link", "{}/secret.json", "/etc/passwd"],
)
def test_what_lies_outside_is_refused(links, name):
    with pytest.raises(InputError, match=r"lies outside .* reads only what is below it"):
        Place(links).path(name.format(links.parent))


@pytest.mark.parametrize("name", ["none.pth", "a\0b", "circle", "x" * 5000])
def test_what_is_not_there_is_one_sentence(links, name):
    with pytest.raises(InputError, match=r"is not below|is no path"):
        Place(links).path(name)


def test_absolute_paths_are_refused_also_inside(outputs):
    with pytest.raises(InputError, match="lies outside"):
        Place(outputs).path(str(outputs / NAME))


def test_the_place_of_one_checkpoint_is_that_file_alone(outputs):
    place = Place(outputs / NAME)
    assert place.path("latest.pth") == (outputs / NAME).resolve()
    (outputs / "run" / "checkpoints" / "other.pth").touch()
    with pytest.raises(InputError, match="lies outside"):
        place.path("other.pth")
    (outputs / "run" / "checkpoints" / "other.pth").unlink()


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist: give a checkpoint, or a folder"):
        Place(tmp_path / "none")


def test_a_model_samples_as_the_library_does(place, outputs):
    """With the averaged weights, by any method."""
    model = place.model(NAME)
    for method in ("", "ddim:3"):
        ours = model.sampler(method).sample(2, [0, 2], 2.0, seeds=[5, 6])
        sampler = DiffusionSampler.from_pretrained(outputs / NAME, method=method or None)
        assert torch.equal(ours, sampler.sample(2, [0, 2], 2.0, seeds=[5, 6]))


def test_a_model_is_read_once_and_again_when_its_file_changes(place, links):
    place = Place(links)
    first = place.model(NAME)
    assert place.model(NAME) is first
    path = links / NAME
    shutil.copy(path, links / "copy.pth")
    assert place.model("copy.pth").digest == first.digest
    os.utime(path, (1, 1))
    assert place.model(NAME) is not first


def test_at_most_a_few_models_are_kept(links, monkeypatch):
    monkeypatch.setattr(place_module, "KEPT", 1)
    from snowmelt.models import Checkpoint

    other = Checkpoint.read(links / NAME)
    next(iter(other.weights.values())).add_(1)
    other.write(links / "other.pth")
    place = Place(links)
    first = place.model(NAME)
    place.model("other.pth")
    assert place.model(NAME) is not first


def test_a_missing_checkpoint_is_one_sentence(place):
    with pytest.raises(InputError, match="there is no checkpoint below"):
        place.model(None)


def test_a_method_is_read_as_the_command_reads_it(place):
    assert place.chosen(" ") == place_module.Chosen()
    assert place.chosen("ddim:20").method == Method.parse("ddim:20")
    assert place.chosen("ddim:20", steps=7).text == "ddim:7"
    assert place.chosen("", steps=7, own=Method("ddim", 20)).text == "ddim:7"


def test_a_plan_is_read_from_the_place_alone(links):
    place = Place(links)
    schedule = place.model(NAME).base.model.schedule
    write_plan(Method("ddim", 4).plan(schedule), links / "plan.json")
    chosen = place.chosen("plan.json")
    assert chosen.method.table == Method("ddim", 4).plan(schedule)
    assert chosen.text == str(links / "plan.json")
    for name in ("../secret.json", str(links.parent / "secret.json"), "link/secret.json"):
        with pytest.raises(InputError, match="lies outside"):
            place.model(NAME).sampler(name)
