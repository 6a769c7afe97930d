"""A model on either network: built by name, kept in its checkpoint, sampled from."""

from __future__ import annotations

import pytest
import torch

from snowmelt import DiffusionSampler
from snowmelt.models import Checkpoint, ModelSpec, create_model

OPTIONS = {
    "unet": {"channel_multipliers": (1, 2), "norm_groups": 4, "patch_size": 2, "use_attention": 2},
    "dit": {"depth": 1, "patch_size": 4, "qk_norm": True},
}


def small(network: str, **options):
    return create_model(8, 1, 8, network=network, attention_head_dim=4, **{**OPTIONS[network], **options})


@pytest.mark.parametrize("network", OPTIONS)
def test_a_checkpoint_says_which_network_it_is_of(network, tmp_path):
    model = small(network, num_classes=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    Checkpoint.of(model).write(tmp_path / "model.pth")
    again = Checkpoint.read(tmp_path / "model.pth").model()
    assert again.spec == model.spec
    assert again.spec.network == network
    images = [
        DiffusionSampler(each, method="ddim:2").sample(2, class_labels=[0, 2], seeds=[1, 2])
        for each in (model, again)
    ]
    assert torch.equal(*images)


def test_a_file_from_before_networks_had_names_is_a_unet_and_new_ones_read_as_before():
    config = small("unet").config
    assert "network" not in config
    assert ModelSpec.from_config(config).network == "unet"
    assert small("dit").config["network"] == "dit"


def test_what_is_left_out_is_the_default_of_the_network():
    assert small("unet", patch_size=1).config["channel_multipliers"] == [1, 2]
    assert create_model(8, 1, network="unet", channel_multipliers=(1,)).config["model_channels"] == 64
    spec = ModelSpec(network="dit")
    with torch.device("meta"):  # without memory
        assert spec.make_network().config["depth"] == 12


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: create_model(network="vit"), ValueError, "unknown network 'vit', did you mean 'dit'?"),
        (
            lambda: create_model(schedule="flow", learned_variance=True),
            ValueError,
            "flow has none: add schedule: ddpm beside it",
        ),
        (
            lambda: small("dit", channel_multipliers=(1, 2)),
            TypeError,
            "dit has no option 'channel_multipliers'",
        ),
        (lambda: small("unet", depth=2), TypeError, "unet has no option 'depth'"),
        (lambda: small("dit", depth=10**6), ValueError, "depth must be at most 100"),
        (lambda: small("dit", patch_size=3), ValueError, "height and width must be multiples of 3"),
        (lambda: ModelSpec.from_config({"network": "vit"}), ValueError, "unknown network 'vit'"),
        (lambda: ModelSpec.from_config({"network": ["dit"]}), TypeError, "network must be str"),
    ],
)
def test_what_cannot_be_built_is_said(make, error, said):
    with pytest.raises(error, match=said.replace("?", r"\?")):
        make()
