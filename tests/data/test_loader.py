"""What a run sees follows from seed and epoch, whatever happened before."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snowmelt.data import DiffusionDataLoader
from snowmelt.data.order import EpochBatches, place
from snowmelt.errors import InputError

CHANGES = {"horizontal_flip": True, "rotation_degrees": 30.0, "color_jitter": 0.5}


@pytest.fixture
def folder(tmp_path):
    """Two classes of five colour images each, every image its own gradient."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index in range(5):
            picture = Image.linear_gradient("L").rotate(90).resize((12, 10))
            red = picture.point(lambda value, shift=20 * index: (value + shift) % 256)
            Image.merge("RGB", (red, picture, picture.rotate(180))).save(
                tmp_path / name / f"{label}{index}.png"
            )
    return tmp_path


def digits(**options) -> DiffusionDataLoader:
    return DiffusionDataLoader(
        "digits:test", **{"image_size": 8, "in_channels": 1, "batch_size": 50, **options}
    )


def seen(loader) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -- order ---------------------------------------------------------------------------------------------

sizes = {"num_images": st.integers(1, 60), "batch_size": st.integers(1, 20), "seed": st.integers(0, 5)}


@given(**sizes, epoch=st.integers(0, 5), shuffle=st.booleans())
def test_an_epoch_shows_every_image_once(num_images, batch_size, seed, epoch, shuffle):
    batches = EpochBatches(num_images, batch_size, seed=seed, epoch=epoch, shuffle=shuffle)
    assert sorted(index for batch in batches for index in batch) == list(range(num_images))
    assert len(list(batches)) == len(batches)


@given(**sizes)
def test_drop_last_drops_only_a_batch_that_is_not_full(num_images, batch_size, seed):
    whole = list(EpochBatches(num_images, batch_size, seed=seed))
    dropped = list(EpochBatches(num_images, batch_size, seed=seed, drop_last=True))
    assert dropped == [batch for batch in whole if len(batch) == batch_size]


@given(**sizes, start=st.integers(0, 60))
def test_starting_later_leaves_out_the_beginning_alone(num_images, batch_size, seed, start):
    whole = list(EpochBatches(num_images, batch_size, seed=seed))
    assert list(EpochBatches(num_images, batch_size, seed=seed, start=start)) == whole[start:]


@given(**sizes, processes=st.integers(1, 4), drop_last=st.booleans())
def test_processes_share_each_batch_of_one_process(num_images, batch_size, seed, processes, drop_last):
    """Together they see what one process with large batches sees; one without an image looks at another's."""
    options = {"seed": seed, "drop_last": drop_last}
    whole = list(EpochBatches(num_images, batch_size * processes, **options))
    team = [(rank, processes) for rank in range(processes)]
    shares = [EpochBatches(num_images, batch_size, **options, process=process) for process in team]
    assert {len(share) for share in shares} == {len(whole)}
    for number, (together, *parts) in enumerate(zip(whole, *shares, strict=True)):
        places = [place(number, batch_size, num_images, process) for process in team]
        counted = [part[: at.counted] for part, at in zip(parts, places, strict=True)]
        assert [image for part in counted for image in part] == together
        assert {len(at.whole) for at in places} == {len(together)}
        assert [len(part) for part in parts] == [len(at.own) for at in places]
        assert all(1 <= len(part) <= batch_size for part in parts)
        assert max(map(len, counted)) - min(map(len, counted)) <= 1


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else():
    orders = [
        tuple(map(tuple, EpochBatches(100, 10, seed=seed, epoch=epoch)))
        for seed in range(5)
        for epoch in range(5)
    ]
    assert len(set(orders)) == 25
    torch.manual_seed(1)
    assert tuple(map(tuple, EpochBatches(100, 10, seed=0, epoch=0))) == orders[0]


def test_without_shuffling_every_epoch_is_in_the_datas_order():
    data = digits(shuffle_train=False)
    assert same(seen(data.train_loader(0)), seen(data.train_loader(7)))
    assert not same(seen(digits().train_loader(0)), seen(digits().train_loader(7)))


# -- batches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_last", [True, False])
def test_counts_are_those_of_the_batches(drop_last):
    data = digits(drop_last=drop_last)
    lengths = [len(labels) for _, labels in data.train_loader(0)]
    assert len(lengths) == data.batches_per_epoch() == len(data.train_loader(0))
    assert sum(lengths) == (350 if drop_last else data.num_train_images)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("augmented", [{}, CHANGES])
def test_batches_are_images_in_range_with_labels(folder, in_channels, augmented):
    data = DiffusionDataLoader(folder, image_size=8, batch_size=4, in_channels=in_channels, **augmented)
    for images, labels in data.train_loader(0):
        assert images.shape[1:] == data.image_shape == (in_channels, 8, 8)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.abs().max() <= 1
        assert len(images) == len(labels)
        assert set(labels.tolist()) <= set(range(data.num_classes))


def test_a_resumed_epoch_reads_only_what_is_left(folder, monkeypatch):
    data = DiffusionDataLoader(folder, image_size=8, batch_size=4, cache="none", **CHANGES)
    whole = list(data.train_loader(3))
    opened, read = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: opened.append(path) or read(path, *rest))
    rest = list(data.train_loader(3, start_batch=1))
    assert len(opened) == 6
    assert all(same(one, other) for one, other in zip(rest, whole[1:], strict=True))


def test_validation_shows_everything_in_order_and_unchanged(folder):
    data = DiffusionDataLoader(folder, folder, 8, 4, drop_last=True, **CHANGES)
    images, labels = seen(data.val_loader())
    assert labels.tolist() == [0] * 5 + [1] * 5
    plain = DiffusionDataLoader(folder, image_size=8, batch_size=4, shuffle_train=False)
    assert same((images, labels), seen(plain.train_loader(0)))


def test_validation_shows_the_validation_data():
    data = DiffusionDataLoader("digits:train", "digits:test", 8, 100, 1)
    wanted = DiffusionDataLoader("digits:test", None, 8, 100, 1, shuffle_train=False)
    assert same(seen(data.val_loader()), seen(wanted.train_loader(0)))


def test_no_validation_data_no_loader():
    assert digits().val_loader() is None


def test_loading_leaves_the_global_generator_alone(folder):
    data = DiffusionDataLoader(folder, folder, 8, 4, **CHANGES)
    before = torch.get_rng_state()
    seen(data.train_loader(0))
    seen(data.val_loader())
    assert torch.equal(before, torch.get_rng_state())


# -- workers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_workers_change_nothing(folder, cache):
    options = {"image_size": 8, "batch_size": 3, "cache": cache, **CHANGES}
    here, there = (DiffusionDataLoader(folder, folder, num_workers=n, **options) for n in (0, 2))
    for epoch, start in [(0, 0), (1, 0), (2, 2), (2, 4)]:  # whole epochs, and ones that are resumed
        wanted, got = (list(data.train_loader(epoch, start)) for data in (here, there))
        assert all(same(one, other) for one, other in zip(wanted, got, strict=True))
        assert same(seen(here.val_loader()), seen(there.val_loader()))


def test_an_epoch_that_is_left_or_overtaken_disturbs_no_other(folder):
    options = {"image_size": 8, "batch_size": 1, "cache": "none"}
    here, there = (DiffusionDataLoader(folder, num_workers=n, **options) for n in (0, 2))
    for _ in there.train_loader(0):
        break
    first, second = iter(there.train_loader(1)), iter(there.train_loader(2))
    got = [next(first), next(second), next(first), *second, *first]
    one, two = list(here.train_loader(1)), list(here.train_loader(2))
    wanted = [one[0], two[0], one[1], *two[1:], *one[2:]]
    assert all(same(a, b) for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize("cache", ["memory", "none"])
@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_error_the_data_can_be_repaired_and_read(folder, workers, cache):
    data = DiffusionDataLoader(folder, image_size=8, batch_size=2, num_workers=workers, cache=cache)
    path = folder / "dog" / "13.png"
    good = path.read_bytes()
    path.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=rf"^{path} cannot be read as an image"):
        list(data.train_loader(0))
    path.write_bytes(good)
    assert len(list(data.train_loader(0))) == 5


def test_python_ends_though_epochs_are_left_in_the_middle(folder):
    script = """
import sys
from snowmelt.data import DiffusionDataLoader
data = DiffusionDataLoader(sys.argv[1], sys.argv[1], 8, 1, num_workers=1, cache="none")
data.itself = data  # it is not gone when Python ends
held = [iter(data.train_loader(0)), iter(data.val_loader())]
print(*(len(next(batches)) for batches in held))
"""
    command = [sys.executable, "-c", script, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "2 2\n", "")


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_channels", [0, 2, 5])
def test_other_channel_counts_are_refused(in_channels):
    with pytest.raises(InputError, match=rf"in_channels must be 1 .* or 4 .* got {in_channels}"):
        digits(in_channels=in_channels)


def test_an_epoch_without_batches_is_refused():
    with pytest.raises(InputError, match=r"360 images, fewer than batch_size \(512\)"):
        digits(batch_size=512, drop_last=True)
    assert digits(batch_size=512).batches_per_epoch() == 1


def test_validation_data_with_other_classes_is_refused(folder):
    with pytest.raises(InputError, match="cat, dog, which digits does not have: they must be some of 0, 1"):
        DiffusionDataLoader("digits", folder, 8)
