"""What makes small images cheap: patches in front of the U-Net, and attention on small maps alone."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snowmelt.errors import InputError
from snowmelt.models.diffusers.unet_config import unet_config
from snowmelt.networks import DiT, UNet

SMALL = {"model_channels": 8, "layers_per_block": 1, "norm_groups": 4, "channel_multipliers": (1, 2, 2)}


def shaken(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("patch_size", [1, 2, 3])
@torch.no_grad()
def test_patches_are_the_channels_of_a_smaller_image(patch_size):
    network = shaken(UNet(None, 3, 2, patch_size=patch_size, num_classes=2, **SMALL))
    inner = UNet(None, 3 * patch_size**2, 2 * patch_size**2, num_classes=2, **SMALL)
    inner.load_state_dict(network.state_dict())
    x_t, rest = torch.randn(2, 3, 4 * patch_size, 8 * patch_size), (torch.tensor([3.0, 900.0]),)
    expected = F.pixel_shuffle(inner.eval()(F.pixel_unshuffle(x_t, patch_size), *rest), patch_size)
    torch.testing.assert_close(network(x_t, *rest), expected, rtol=0, atol=0)
    assert network.stride == 4 * patch_size


def test_a_size_must_be_whole_patches_at_every_stage():
    with pytest.raises(ValueError, match="image size 12 x 12 does not fit: this network shrinks it by 8"):
        UNet(12, 3, patch_size=2, **SMALL)
    with pytest.raises(ValueError, match="patch_size must be at least 1, got 0"):
        UNet(12, 3, patch_size=0, **SMALL)


@pytest.mark.parametrize(
    ("image_size", "patch_size", "largest", "attended"),
    [
        (32, 1, 16, [False, True, True]),
        (32, 1, 8, [False, False, True]),
        (32, 1, 7, [False, False, False]),
        (32, 1, 32, [True, True, True]),
        (32, 2, 16, [True, True, True]),
        (64, 2, 16, [False, True, True]),
        ((16, 32), 1, 16, [False, True, True]),  # of two sides, the larger one
    ],
)
def test_attention_can_be_had_up_to_a_size(image_size, patch_size, largest, attended):
    network = UNet(image_size, 3, use_attention=largest, patch_size=patch_size, **SMALL)
    stated = UNet(image_size, 3, use_attention=attended, patch_size=patch_size, **SMALL)
    assert network.config == stated.config
    assert network.config["use_attention"] == attended
    assert network.state_dict().keys() == stated.state_dict().keys()
    assert UNet(**json.loads(json.dumps(network.config))).config == network.config


def test_attention_up_to_a_size_needs_the_size_of_the_images():
    with pytest.raises(ValueError, match="use_attention=16 is a size, and image_size is None"):
        UNet(None, 3, use_attention=16, **SMALL)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (UNet(8, 3, patch_size=2, **SMALL), "patch_size = 2 cannot be expressed; expected 1"),
        (DiT(8, 3, model_channels=8, depth=1, attention_head_dim=4), "only a U-Net can be written"),
    ],
    ids=["patches", "transformer"],
)
def test_diffusers_has_no_such_network(network, said):
    with pytest.raises(InputError, match=said):
        unet_config(network.config)
