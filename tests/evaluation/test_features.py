"""Extractors give what their network gives, name themselves by its weights, and say what is missing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from snowmelt.errors import InputError, optional
from snowmelt.evaluation import TensorSource, extract_features, make_extractor
from snowmelt.evaluation.features import timm_models
from snowmelt.images import from_uint8


def images(count: int = 5, channels: int = 3, side: int = 8, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=random)


# Any function


def test_any_function_of_images_is_an_extractor():
    source = TensorSource(images())
    brightness = lambda batch: batch.float().mean(dim=(2, 3))  # noqa: E731
    found = extract_features(source, brightness, batch_size=2).values
    torch.testing.assert_close(found, source.images.float().mean(dim=(2, 3)))


def test_batch_sizes_change_nothing():
    source, pixels = TensorSource(images()), make_extractor("pixels")
    whole = extract_features(source, pixels).values
    assert torch.equal(whole, from_uint8(source.images).flatten(1))
    assert all(
        torch.equal(extract_features(source, pixels, batch_size=size).values, whole) for size in (1, 2, 5)
    )


def test_a_function_that_does_not_return_rows_is_refused():
    with pytest.raises(ValueError, match=r"must return \(B, D\), and returned \(1, 48\) for 2 images"):
        extract_features(TensorSource(images(2, 3, 4)), lambda batch: batch[:1].float())
    with pytest.raises(ValueError, match="batch_size"):
        extract_features(TensorSource(images()), make_extractor("pixels"), batch_size=0)


# The cache


def test_features_are_computed_once_for_the_same_images_and_the_same_extractor(tmp_path):
    calls = []

    class Counting:
        dim = None

        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            calls.append(len(batch))
            return batch.float().flatten(1)

    def found(seed: int = 0, name: str = "one") -> torch.Tensor:
        return extract_features(TensorSource(images(seed=seed)), Counting(name), cache=tmp_path).values

    first = found()
    assert torch.equal(found(), first)
    assert len(calls) == 1
    found(seed=1)
    found(name="two")
    found(name="")  # without a name nothing is kept
    found(name="")
    assert len(calls) == 5


def test_damaged_features_are_computed_anew(tmp_path):
    source, pixels = TensorSource(images()), make_extractor("pixels")
    first = extract_features(source, pixels, cache=tmp_path).values
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    np.save(tmp_path / "other.npy", np.zeros((2, 3)))
    for damage in (b"", whole[: len(whole) // 2], (tmp_path / "other.npy").read_bytes()):
        path.write_bytes(damage)
        assert torch.equal(extract_features(source, pixels, cache=tmp_path).values, first)


# TorchScript and ONNX


class Sums(nn.Module):
    """The sum of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=(2, 3))


@pytest.fixture
def script(tmp_path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.save(torch.jit.script(Sums()), str(tmp_path / "sums.pt"))
    return tmp_path / "sums.pt"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_torchscript_file_gives_its_features(script, channels):
    extractor = make_extractor(script)
    batch = images(channels=channels)
    expected = from_uint8(batch).sum(dim=(2, 3)).expand(-1, 3)
    torch.testing.assert_close(extractor(batch), expected)
    assert extractor.name.startswith("sums.pt-")


def onnx_sums(path: Path, kind: int, channels: int) -> Path:
    shape = ["batch", channels, "height", "width"]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], ["sums"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch", channels])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("kind", "channels"), [(TensorProto.UINT8, 3), (TensorProto.FLOAT, 1)])
def test_an_onnx_file_gives_its_features_of_what_it_declares(kind, channels, tmp_path):
    extractor = make_extractor(onnx_sums(tmp_path / "sums.onnx", kind, channels))
    batch = images(channels=1)
    seen = batch.float() if kind == TensorProto.UINT8 else from_uint8(batch)
    torch.testing.assert_close(extractor(batch), seen.sum(dim=(2, 3)).expand(-1, channels))


@pytest.mark.parametrize("name", ["x.pt", "x.onnx"])
def test_files_that_are_no_networks_are_named(name, tmp_path):
    with pytest.raises(InputError, match=f"{name} cannot be read as an extractor"):
        make_extractor(tmp_path / name)
    (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(InputError, match=f"{name} cannot be read as a"):
        make_extractor(tmp_path / name)


# timm


@pytest.fixture
def tiny_vit(tmp_path) -> Path:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def test_a_timm_model_sees_normalized_images_of_its_own_size(tiny_vit):
    extractor = make_extractor("timm:test_vit", weights=tiny_vit)
    assert extractor.dim == 64
    seen = []
    extractor.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    white = torch.full((2, 1, 16, 16), 255, dtype=torch.uint8)
    assert extractor(white).shape == (2, 64)
    (batch,) = seen
    assert batch.shape == (2, 3, 160, 160)
    mean, std = (torch.tensor(each) for each in (extractor.mean, extractor.std))
    torch.testing.assert_close(batch[0, :, 100, 100], (1 - mean) / std)
    assert extractor.name == make_extractor("timm:test_vit", weights=tiny_vit).name


def test_timm_says_what_it_lacks(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no model resnet118; near it are resnet"):
        make_extractor("timm:resnet118")
    with pytest.raises(InputError, match=r"could not be loaded .*give a file of weights"):
        make_extractor("timm:test_vit", weights=tmp_path / "none.pth")
    monkeypatch.setattr(timm_models, "optional", lambda _, *rest: optional("no_such_library", *rest))
    with pytest.raises(InputError, match=r"needs no_such_library .*snowmelt\[evaluate\]"):
        make_extractor("timm:x")


# Inception


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory) -> Iterator[Path]:
    """Weights of torch-fidelity's architecture, drawn at random: 95 MB that nothing downloads."""
    from torch_fidelity import feature_extractor_inceptionv3 as peer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        network = peer.FeatureExtractorInceptionV3("inception", ["2048"], None, verbose=False)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    yield path
    path.unlink()


def test_inception_gives_torch_fidelitys_features(inception_weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extractor = make_extractor("inception", weights=inception_weights)
    batch = images(2, 1, 16)
    peer = FeatureExtractorInceptionV3(
        "inception", ["2048", "logits_unbiased"], str(inception_weights), verbose=False
    )
    with torch.no_grad():
        features, logits = peer(batch.expand(-1, 3, -1, -1))
    found = extractor(batch)
    torch.testing.assert_close(found, features)
    torch.testing.assert_close(extractor.probabilities(found), logits.softmax(dim=1))
    assert (extractor.dim, found.shape[1]) == (2048, 2048)


def test_inception_says_what_to_do_without_a_network(monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service not known")

    from torch_fidelity import feature_extractor_inceptionv3 as peer

    monkeypatch.setattr(peer, "load_state_dict_from_url", no_network)
    with pytest.raises(InputError) as caught:
        make_extractor("inception")
    for part in ("could not be downloaded", peer.URL_INCEPTION_V3, "checkpoints", "as weights"):
        assert part in str(caught.value)


def test_weights_that_are_none_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pth cannot be read as weights"):
        make_extractor("inception", weights=tmp_path / "none.pth")
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no weights of torch-fidelity's Inception"):
        make_extractor("inception", weights=tmp_path / "other.pth")
    torch.save(Sums(), tmp_path / "code.pth")  # a pickled object, which would run code
    with pytest.raises(InputError, match=r"code\.pth cannot be read as weights"):
        make_extractor("inception", weights=tmp_path / "code.pth")


@pytest.mark.parametrize("name", ["inceptoin", "timm", "pixels:3", "model.pth"])
def test_extractors_that_do_not_exist_are_named(name):
    with pytest.raises(InputError, match="take imagenet, inception, classifier, pixels, timm:MODEL"):
        make_extractor(name)
