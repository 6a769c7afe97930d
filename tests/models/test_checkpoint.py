"""What checkpoints promise: what is written is read; what is broken is named; nothing in a file is run."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from snowmelt import EMA, Checkpoint, create_ddpm, create_model
from snowmelt.digest import content_digest
from snowmelt.models.checkpoint import FORMAT_VERSION
from snowmelt.models.checkpoint_file import read_contents, write_contents
from snowmelt.models.weights import CheckpointError, CheckpointNotFoundError, load_weights
from snowmelt.plans import Method

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SUFFIXES = pytest.mark.parametrize("suffix", [".pth", ".safetensors"])


def trained() -> tuple[nn.Module, dict[str, Any]]:
    """A small network after one step, and its checkpoint with everything that a trainer keeps."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    ema = EMA(model, 0.5)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    model(torch.randn(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    scheduler.step()
    ema.update()
    return model, {
        "model_config": {"image_size": 8, "channel_multipliers": [1, 2], "num_classes": None},
        "model_state_dict": model.state_dict(),
        "ema_state_dict": ema.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "num_classes": None,
        "epoch": 3,
        "metrics": {"val_loss": 0.25},
        "rng_state": {"cpu": torch.get_rng_state(), "cuda": []},
    }


def equal(one: Any, other: Any) -> bool:
    """Equal throughout, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


def complaint(path: Path) -> str:
    """Return what reading `path` says; it names the file, and says that in one line."""
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# -- what is written is read ---------------------------------------------------------------------------


def test_everything_that_a_trainer_keeps_comes_back(tmp_path):
    _, checkpoint = trained()
    write_contents(checkpoint, tmp_path / "latest.pth")
    again = read_contents(tmp_path / "latest.pth")
    assert again.pop("digest") == content_digest(checkpoint)
    assert equal(again, checkpoint)


def test_a_safetensors_file_holds_what_sampling_needs_and_no_more(tmp_path):
    _, checkpoint = trained()
    write_contents(checkpoint, tmp_path / "model.safetensors")
    again = read_contents(tmp_path / "model.safetensors")
    for_training = {"optimizer_state_dict", "scheduler_state_dict", "rng_state"}
    assert again.keys() == checkpoint.keys() - for_training | {"digest"}
    assert all(equal(again[key], checkpoint[key]) for key in checkpoint.keys() - for_training)


def test_a_safetensors_file_opens_in_other_programs(tmp_path):
    model, checkpoint = trained()
    write_contents(checkpoint, tmp_path / "model.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert torch.equal(tensors["model_state_dict.0.weight"], model[0].weight)


@SUFFIXES
@given(config=PLAIN)
def test_plain_values_come_back_as_they_are(suffix, config):
    checkpoint = {"model_state_dict": {"w": torch.ones(1)}, "config": config}
    with tempfile.TemporaryDirectory() as folder:
        write_contents(checkpoint, Path(folder) / f"a{suffix}")
        assert equal(read_contents(Path(folder) / f"a{suffix}")["config"], config)


@SUFFIXES
def test_weights_that_share_memory_or_are_views_come_back(tmp_path, suffix):
    base = torch.arange(6.0).reshape(2, 3)
    weights = {"all": base, "again": base, "column": base[:, 1], "turned": base.T}
    write_contents({"model_state_dict": weights}, tmp_path / f"a{suffix}")
    assert equal(read_contents(tmp_path / f"a{suffix}")["model_state_dict"], weights)


def test_reading_touches_no_file(tmp_path):
    """The tensors are the reader's own: changing them changes nothing on the disk."""
    path = tmp_path / "a.pth"
    write_contents({"model_state_dict": {"w": torch.zeros(4)}}, path)
    read_contents(path)["model_state_dict"]["w"].fill_(1.0)
    assert torch.equal(read_contents(path)["model_state_dict"]["w"], torch.zeros(4))


def test_a_checkpoint_can_be_overwritten_while_it_is_in_use(tmp_path):
    path = tmp_path / "a.pth"
    write_contents({"model_state_dict": {"w": torch.zeros(10_000)}}, path)
    old = read_contents(path)["model_state_dict"]["w"]
    write_contents({"model_state_dict": {"w": torch.ones(10_000)}}, path)
    assert torch.equal(old, torch.zeros(10_000))


@SUFFIXES
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_bare_weights_are_a_checkpoint_whoever_wrapped_the_model(tmp_path, suffix, prefix):
    model = nn.Linear(2, 1)
    weights = {prefix + name: value for name, value in model.state_dict().items()}
    write = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    write(weights, tmp_path / f"a{suffix}")
    again = Checkpoint.read(tmp_path / f"a{suffix}")
    assert equal(again.weights, dict(model.state_dict()))
    assert again.spec is None


def test_files_of_old_torch_are_read(tmp_path):
    weights = {"w": torch.arange(3)}
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert equal(read_contents(tmp_path / "old.pth"), {"model_state_dict": weights})


@pytest.mark.parametrize(
    ("suffix", "value"),
    [(".pth", Path("a")), (".pth", np.float64(0.5)), (".pth", nn.Linear(1, 1)), (".safetensors", Path("a"))],
    ids=["path", "numpy", "module", "safetensors"],
)
def test_what_could_not_be_read_is_not_written(tmp_path, suffix, value):
    path = tmp_path / f"a{suffix}"
    write_contents({"model_state_dict": {"w": torch.zeros(1)}}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_contents({"model_state_dict": {"w": torch.ones(1)}, "metrics": {"a": value}}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -- what is broken is named ---------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    assert "not found" in complaint(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError):
        Checkpoint.read(tmp_path / "none.pth")
    assert issubclass(CheckpointNotFoundError, ValueError)


def test_a_folder(tmp_path):
    assert "is a folder, but none of diffusers" in complaint(tmp_path)


def write_png(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, format="png")


STRANGERS: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello\n"),
    "yaml": lambda path: path.write_text("epochs: 3\n"),
    "csv": lambda path: path.write_text("step,loss\n1,0.5\n"),
    "json": lambda path: path.write_text("{}"),
    "png": write_png,
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "one byte": lambda path: path.write_bytes(pickle.PROTO),
}


@SUFFIXES
@pytest.mark.parametrize("write", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_file_of_another_kind(tmp_path, suffix, write):
    path = tmp_path / f"a{suffix}"
    write(path)
    assert "not a checkpoint at all" in complaint(path)


@SUFFIXES
@given(content=st.binary(max_size=64))
def test_no_bytes_get_past_the_reader(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        complaint(path)


@pytest.mark.parametrize("kind", [".pth", ".safetensors", "old.pth"])
def test_a_file_that_is_cut_off_anywhere(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    if kind == "old.pth":
        torch.save({"w": torch.zeros(8)}, path, _use_new_zipfile_serialization=False)
    else:
        write_contents({"model_state_dict": {"w": torch.zeros(8)}}, path)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 7), *range(len(whole) - 20, len(whole))}:
        path.write_bytes(whole[:length])
        complaint(path)


def test_a_number_is_no_checkpoint(tmp_path):
    torch.save(3, tmp_path / "a.pth")
    assert "it holds int, not a dictionary" in complaint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content",
    [{}, {"epoch": 3}, {"model_state_dict": {}}, {"model_state_dict": 3}, {"model_state_dict": {"w": 1.0}}],
    ids=str,
)
def test_a_checkpoint_without_weights(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    assert "no weights under model_state_dict" in complaint(tmp_path / "a.pth")


@SUFFIXES
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format_version", "1"),
        ("format_version", None),
        ("model_config", [8, 1]),
        ("ema_state_dict", None),
        ("class_names", 3),
        ("sampling", "ddim"),
    ],
)
def test_a_key_that_holds_something_else(tmp_path, suffix, key, value):
    path = tmp_path / f"a{suffix}"
    write_contents({"model_state_dict": {"w": torch.ones(1)}, key: value}, path)
    assert f"its {key} is of type {type(value).__name__}, expected" in complaint(path)


@pytest.mark.parametrize("metadata", ["no JSON", '{"model_state_dict": {"w": {"tensor": "x"}}}'])
def test_a_safetensors_file_whose_description_is_damaged(tmp_path, metadata):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.ones(1)}, path, metadata={"snowmelt": metadata})
    assert "damaged" in complaint(path)


def test_no_advice_to_run_code_is_passed_on(tmp_path):
    path = tmp_path / "a.pth"
    Image.new("L", (8, 8)).save(path, format="png")
    assert "False" not in complaint(path)


def test_a_long_list_of_keys_is_cut_short(tmp_path):
    torch.save({f"key{i}": i for i in range(500)}, tmp_path / "a.pth")
    assert "key0, key1, key2 and 497 more" in complaint(tmp_path / "a.pth")


@SUFFIXES
def test_a_file_from_the_future(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    checkpoint = {"model_state_dict": {"w": torch.ones(1)}, "snowmelt_version": "99.0"}
    write_contents({**checkpoint, "format_version": FORMAT_VERSION + 1}, path)
    message = complaint(path)
    assert "99.0" in message
    assert "update snowmelt" in message


# -- damage is seen ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with one checkpoint in each format, and its weights alone in torch's."""
    folder = tmp_path_factory.mktemp("whole")
    model = create_ddpm(8, 1, 8, (1, 2), norm_groups=4, layers_per_block=1)
    checkpoint = Checkpoint.of(model, EMA(model), training={"epoch": 3})
    for suffix in (".pth", ".safetensors"):
        checkpoint.write(folder / f"a{suffix}")
    torch.save(model.state_dict(), folder / "bare.pth")
    return folder


@cache
def intact(path: Path) -> Checkpoint:
    return Checkpoint.read(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "bare.pth"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_seen_or_changes_nothing(whole, name, data):
    """Some bytes of an archive say nothing, such as those between its members."""
    contents = bytearray((whole / name).read_bytes())
    place = data.draw(st.integers(0, 8 * len(contents) - 1))
    contents[place // 8] ^= 1 << place % 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(contents)
        with suppress(CheckpointError):
            assert Checkpoint.read(path) == intact(whole / name)


@SUFFIXES
def test_weights_exchanged_under_an_old_digest_are_refused(whole, tmp_path, suffix, monkeypatch):
    contents = read_contents(whole / f"a{suffix}")
    contents["model_state_dict"]["network.conv_in.weight"] += 1e-6
    digest = contents["digest"]
    monkeypatch.setattr("snowmelt.models.checkpoint_file.content_digest", lambda contents: digest)
    write_contents(contents, tmp_path / f"a{suffix}")
    assert "is damaged" in complaint(tmp_path / f"a{suffix}")


def repacked(path: Path, change: Callable[[list[tuple[str, bytes]]], None], compression: int) -> None:
    """Write an archive anew, with checksums that are right."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    change(members)
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def twice(members):
    name, content = next(member for member in members if "/data/" in member[0])
    members.append((name, bytes(len(content))))


def shorter(members):
    place = next(i for i, (name, _) in enumerate(members) if "/data/" in name)
    members[place] = (members[place][0], members[place][1][:-4])


@pytest.mark.parametrize("name", ["a.pth", "bare.pth"])
@pytest.mark.parametrize(
    ("change", "compression"),
    [
        (lambda members: None, zipfile.ZIP_DEFLATED),
        (twice, zipfile.ZIP_STORED),
        (shorter, zipfile.ZIP_STORED),
    ],
    ids=["compressed", "a part twice", "a part shorter"],
)
def test_an_archive_that_was_packed_anew_does_not_load_as_other_weights(
    whole, tmp_path, name, change, compression
):
    """Its tensors are read where they stand in the file."""
    path = tmp_path / name
    path.write_bytes((whole / name).read_bytes())
    repacked(path, change, compression)
    assert "damaged" in complaint(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda tensor: tensor.to("meta"),
        lambda tensor: torch.zeros(1).expand(10**6, 10**6),
        lambda tensor: tensor.int(),
        lambda tensor: tensor * float("nan"),
        lambda tensor: tensor / 0,
    ],
    ids=[
        "sparse",
        "complex",
        "quantised",
        "without data",
        "a million million",
        "integers",
        "nan",
        "infinite",
    ],
)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.filterwarnings("ignore")  # torch, on quantised and sparse tensors
def test_what_is_no_weight_is_refused(whole, tmp_path, damage, averaged):
    contents = read_contents(whole / "a.pth")
    contents.pop("digest")
    weights = contents["ema_state_dict"]["shadow"] if averaged else contents["model_state_dict"]
    weights["network.conv_in.weight"] = damage(weights["network.conv_in.weight"] + 1)
    torch.save(contents, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"network\.conv_in\.weight"):
        (again := Checkpoint.read(tmp_path / "a.pth")).averaged(again.model())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_channels", [8]),
        ("model_channels", "8"),
        ("model_channels", True),
        ("image_size", {"x": 8}),
        ("image_size", 10**9),
        ("layers_per_block", 10**6),
        ("model_channels", 65_536),
        ("channel_multipliers", [1] * 10_000),
        ("num_classes", 10**9),
        ("num_timesteps", 10**9),
        ("num_timesteps", [20]),
        ("betas", [[0.1]]),
        ("parameterization", ["eps"]),
        ("schedule", {"x": 1}),
        ("dropout", None),
        ("colour", 1),
    ],
    ids=str,
)
def test_a_description_of_no_model_is_refused_at_once(whole, tmp_path, key, value):
    contents = read_contents(whole / "a.pth")
    contents["model_config"][key] = value
    write_contents(contents, tmp_path / "a.pth")
    start = time.perf_counter()
    with pytest.raises(CheckpointError):
        Checkpoint.read(tmp_path / "a.pth").model()
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_config", {"in_channels": torch.ones(1)}),
        ("num_classes", torch.ones(1)),
        ("num_classes", True),
        ("class_names", [1, 2]),
        ("class_names", ["a", 2]),
        ("sampling", {"method": {"solver": "ddim", "steps": [2]}}),
        ("sampling", {"method": 3}),
        ("sampling", {"threshold": torch.ones(1)}),
    ],
    ids=str,
)
def test_lists_and_tensors_where_plain_values_belong(tmp_path, key, value):
    write_contents({"model_state_dict": {"w": torch.ones(1)}, key: value}, tmp_path / "a.pth")
    complaint(tmp_path / "a.pth")


def test_what_unpickles_to_more_than_it_takes_is_refused_from_its_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr("snowmelt.models.checkpoint_file._MOST_VALUES", 10_000)  # a million takes a second
    nested: list[Any] = [0]
    for _ in range(40):
        nested = [nested, nested]
    torch.save({"model_state_dict": {"w": torch.ones(1)}, "metrics": nested}, tmp_path / "a.pth")
    assert "metrics is more than 10,000 values" in complaint(tmp_path / "a.pth")


# -- the value -----------------------------------------------------------------------------------------


@SUFFIXES
@pytest.mark.parametrize("schedule", ["ddpm-cosine", "flow", "edm", "vp", "cosine"])
def test_a_checkpoint_comes_back_as_it_was(tmp_path, suffix, schedule):
    options = {"ddpm-cosine": {"num_timesteps": 20}, "edm": {"sigma_max": 20.0}}.get(schedule)
    model = create_model(
        8, 1, 8, (1, 2), 3, schedule=schedule, schedule_options=options, norm_groups=4, layers_per_block=1
    )
    checkpoint = Checkpoint.of(
        model,
        EMA(model),
        class_names=["a", "b", "c"],
        method=Method("ddim", 20, options={"eta": 0.5}),
        threshold=None,
        guidance={"type": "cfg", "interval": [0.3, 3.0]},
        training={"epoch": 3},
        config={"experiment": "digits"},
    )
    checkpoint.write(tmp_path / f"a{suffix}")
    again = Checkpoint.read(tmp_path / f"a{suffix}")
    assert again == checkpoint
    for name in (
        "spec",
        "class_names",
        "num_classes",
        "method",
        "threshold",
        "guidance",
        "training",
        "config",
    ):
        assert getattr(again, name) == getattr(checkpoint, name), name
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    level = model.schedule(0.4)
    assert torch.equal(again.model().eval()(x, level, labels), model.eval()(x, level, labels))


@pytest.mark.parametrize(
    "change", [{"threshold": "clip"}, {"class_names": ["b", "a"]}, {"training": {"epoch": 4}}]
)
def test_checkpoints_with_other_contents_differ(change):
    model = create_ddpm(8, 1, 8, (1, 2), norm_groups=4, layers_per_block=1)
    assert Checkpoint.of(model) == Checkpoint.of(model)
    assert Checkpoint.of(model) != Checkpoint.of(model, **change)


def test_files_of_format_1_are_read(tmp_path):
    """They had no digest, and the arguments of DiffusionSampler under `sampling`; None was every step."""
    model = create_ddpm(8, 1, 8, (1, 2), norm_groups=4, layers_per_block=1)
    sampling = {"solver": "ddpm", "steps": None, "grid": "leading", "offset": 1, "threshold": None}
    contents = {"format_version": 1, "model_config": model.config, "model_state_dict": model.state_dict()}
    torch.save({**contents, "sampling": sampling, "epoch": 3}, tmp_path / "old.pth")
    again = Checkpoint.read(tmp_path / "old.pth")
    assert again.method == Method("ddpm", "all", "leading", {"offset": 1})
    assert again.threshold is None
    assert again.training == {"epoch": 3}
    assert again.spec == model.spec


def test_weights_without_a_spec_do_not_make_a_model(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth holds weights but not the model's configuration"):
        Checkpoint.read(tmp_path / "a.pth").model()


# -- nothing in a file is run --------------------------------------------------------------------------


class Burglar:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    "protocol", [None, *range(pickle.HIGHEST_PROTOCOL + 1)], ids=lambda p: f"protocol-{p}"
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, protocol):
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    content = {"model_state_dict": {"w": torch.zeros(1)}, "config": Burglar(marker)}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    message = complaint(path)
    if protocol not in (0, 1):  # which begin like any text
        assert "was not opened" in message
        assert "could run code" in message
    assert not marker.exists()
    pickle.loads(pickle.dumps(Burglar(marker)))
    assert marker.exists()  # it would have


# -- into a network ------------------------------------------------------------------------------------


def test_weights_reach_the_network(tmp_path):
    model, checkpoint = trained()
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    load_weights(other, checkpoint["model_state_dict"], source="a.pth")
    assert equal(dict(other.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("0.bias"), r"missing: 0\.bias"),
        (lambda weights: weights.update(new=torch.zeros(1)), r"unexpected: new"),
        (
            lambda weights: weights.update({"0.weight": torch.zeros(5, 1, 3, 3)}),
            r"other shape: 0\.weight \(file \(5, 1, 3, 3\), model \(2, 1, 3, 3\)\)",
        ),
        (lambda weights: weights.clear(), r"missing: 0\.weight, 0\.bias, 1\.weight and 4 more"),
    ],
    ids=["missing", "unexpected", "shape", "many"],
)
def test_weights_that_do_not_fit_change_nothing(change, message):
    model, _ = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items()}
    change(weights)
    with pytest.raises(CheckpointError, match=rf"(?s)somewhere\.pth.*options.*{message}"):
        load_weights(model, weights, source="somewhere.pth")
    assert equal(dict(model.state_dict()), before)
