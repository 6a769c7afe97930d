"""The diffusion transformer: the mathematics of diffusers' DiTTransformer2DModel, sizes, beginnings."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from snowmelt.networks import DiT

SMALL: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 16,
    "depth": 2,
    "attention_head_dim": 4,
    "num_classes": 5,
}


def shaken(network: nn.Module) -> Any:
    """Move all parameters off their start: layers that start at zero would hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def inputs(height: int = 8, width: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 3, height, width), torch.tensor([1.0, 10.25, 999.0]), torch.tensor([0, 5, 1])


def theirs_of(network: DiT, out_channels: int) -> DiTTransformer2DModel:
    """Return diffusers' network with the weights of ours."""
    dim, patch_size = SMALL["model_channels"], network.patch_size
    theirs = DiTTransformer2DModel(
        num_attention_heads=dim // 4,
        attention_head_dim=4,
        in_channels=3,
        out_channels=out_channels,
        num_layers=2,
        sample_size=8,
        patch_size=patch_size,
        num_embeds_ada_norm=5,
        norm_eps=1e-6,
    )
    ours, weights = network.state_dict(), {}
    moved = {
        "modulation": "norm1.linear",
        "to_q": "attn1.to_q",
        "to_k": "attn1.to_k",
        "to_v": "attn1.to_v",
        "to_out": "attn1.to_out.0",
        "mlp.0": "ff.net.0.proj",
        "mlp.2": "ff.net.2",
    }
    for i in range(2):
        block = f"transformer_blocks.{i}"
        pairs = {f"{block}.{new}": f"blocks.{i}.{old}" for old, new in moved.items()}
        # There, each block embeds the time and the class for itself
        for layer in ("linear_1", "linear_2"):
            pairs[f"{block}.norm1.emb.timestep_embedder.{layer}"] = f"time_embedding.{layer}"
        weights[f"{block}.norm1.emb.class_embedder.embedding_table.weight"] = ours["class_embedding.weight"]
        for new, old in pairs.items():
            weights |= {f"{new}.{kind}": ours[f"{old}.{kind}"] for kind in ("weight", "bias")}
        theirs.transformer_blocks[i].norm1.emb.time_proj.downscale_freq_shift = 0  # as in the paper's code
    weights["pos_embed.proj.weight"] = ours["patch_in.weight"].unflatten(1, (3, patch_size, patch_size))
    weights["pos_embed.proj.bias"] = ours["patch_in.bias"]
    for kind in ("weight", "bias"):
        weights[f"proj_out_1.{kind}"] = ours[f"modulation_out.{kind}"]
        # There, the channels of a patch come last
        patch = ours[f"patch_out.{kind}"].unflatten(0, (out_channels, patch_size**2))
        weights[f"proj_out_2.{kind}"] = patch.transpose(0, 1).flatten(0, 1)
    theirs.load_state_dict(weights)
    return theirs.eval()


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("out_channels", [3, 2])
def test_equals_diffusers_with_the_same_weights(patch_size, out_channels):
    network = shaken(DiT(**SMALL, out_channels=out_channels, patch_size=patch_size))
    theirs = theirs_of(network, out_channels)
    x_t, timesteps, labels = inputs(8, 8)
    xs = [x_t.clone().requires_grad_() for _ in range(2)]
    y, expected = network(xs[0], timesteps, labels), theirs(xs[1], timesteps, labels).sample
    assert expected.std() > 1e-5  # or equality would say nothing
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(y)
    y.backward(direction)
    expected.backward(direction)
    torch.testing.assert_close(xs[0].grad, xs[1].grad, rtol=1e-4, atol=1e-5)


def test_starts_as_the_zero_function_and_each_block_as_the_identity():
    network = DiT(**SMALL)
    assert network(*inputs()).abs().max() == 0
    tokens = torch.randn(2, 6, 16)
    for block in network.blocks:
        torch.testing.assert_close(block(tokens, torch.randn(2, 16)), tokens, rtol=0, atol=0)


@torch.no_grad()
def test_images_of_a_batch_know_nothing_of_each_other():
    network, batch, order = shaken(DiT(**SMALL, qk_norm=True)), inputs(), torch.tensor([2, 0, 1])
    together = network(*batch)
    torch.testing.assert_close(network(*(part[order] for part in batch)), together[order])
    for i in range(3):
        alone = network(*(part[i : i + 1] for part in batch))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_only_the_position_tells_tokens_apart(monkeypatch):
    """Without it, a network moves whole patches as its input does; with it, it does not."""
    network = shaken(DiT(**SMALL))
    x_t, timesteps, labels = inputs()

    def moved(x: Tensor) -> Tensor:
        return x.roll((2, 4), (2, 3))

    assert not torch.allclose(
        network(moved(x_t), timesteps, labels), moved(network(x_t, timesteps, labels)), atol=1e-3
    )
    monkeypatch.setattr("snowmelt.networks.dit.positions", lambda h, w, c, device: torch.zeros(h * w, c))
    torch.testing.assert_close(network(moved(x_t), timesteps, labels), moved(network(x_t, timesteps, labels)))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 10), (16, 8)])
def test_every_size_that_the_stride_divides_works(height, width):
    x_t, timesteps, labels = inputs(height, width)
    assert DiT(**SMALL)(x_t, timesteps, labels).shape == x_t.shape
    with pytest.raises(ValueError, match=f"image size {height + 1} x {width} does not fit.*multiples of 2"):
        DiT(**SMALL)(F.pad(x_t, (0, 0, 0, 1)), timesteps, labels)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_gradients_reach_every_parameter(qk_norm):
    network = shaken(DiT(**SMALL, qk_norm=qk_norm))
    network(*inputs()).square().sum().backward()
    without = {
        name
        for name, parameter in network.named_parameters()
        if not name.endswith("to_k.bias") and (parameter.grad is None or parameter.grad.abs().max() == 0)
    }
    assert not without  # softmax doesn't change when a key bias adds the same to all of a token's scores


@torch.no_grad()
def test_normed_queries_and_keys_have_no_length():
    block = shaken(DiT(**SMALL, qk_norm=True)).blocks[0]
    tokens, condition = torch.randn(2, 6, 16), torch.randn(2, 16)
    before = block(tokens, condition)
    for layer in (block.to_q, block.to_k):
        layer.weight.mul_(1000)
        layer.bias.mul_(1000)
    torch.testing.assert_close(block(tokens, condition), before, rtol=1e-3, atol=1e-4)


def test_labels_are_those_of_a_unet():
    network = shaken(DiT(**SMALL))
    x_t, timesteps, labels = inputs()
    assert network.null_class == 5
    torch.testing.assert_close(
        network(x_t, timesteps), network(x_t, timesteps, torch.full((3,), 5)), rtol=0, atol=0
    )
    with pytest.raises(ValueError, match="class_labels given to an unconditional network"):
        DiT(**{**SMALL, "num_classes": 0})(x_t, timesteps, labels)
    with pytest.raises(ValueError, match="class_labels are needed"):
        DiT(**SMALL, has_null_class=False)(x_t, timesteps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_channels": 18}, "4 does not divide model_channels=18"),
        ({"attention_head_dim": 3}, "attention_head_dim=3 does not divide model_channels=16"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"image_size": 9}, "image size 9 x 9 does not fit"),
        ({"num_classes": -1}, "num_classes must be None, 0 or positive"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiT(**{**SMALL, **options})


@torch.no_grad()
def test_its_config_survives_json_and_rebuilds_it():
    network = shaken(DiT(**SMALL, qk_norm=True, out_channels=2))
    rebuilt = DiT(**json.loads(json.dumps(network.config)))
    assert rebuilt.config == network.config
    rebuilt.load_state_dict(network.state_dict())
    batch = inputs()
    torch.testing.assert_close(rebuilt.eval()(*batch), network(*batch), rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
@torch.no_grad()
def test_runs_in_half_precision(dtype, tolerance):
    network, batch = shaken(DiT(**SMALL, qk_norm=True)), inputs()
    exact = network(*batch)
    rounded = network.to(dtype)(*batch)
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).norm() < tolerance * exact.norm()


def test_no_augment_labels_mean_an_image_that_was_not_changed():
    network = shaken(DiT(**SMALL, augment_channels=4))
    labels = torch.zeros(3, 4)
    given = inputs()
    assert torch.equal(network(*given), network(*given, labels))
    assert not torch.equal(network(*given), network(*given, labels + 1))
    with pytest.raises(ValueError, match="build it with augment_channels=4"):
        DiT(**SMALL)(*given, labels)
