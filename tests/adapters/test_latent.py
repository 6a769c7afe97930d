"""Latent models: latents to the end, then one decoding, in images that do not depend on their company."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from snowmelt import DiffusionSampler
from snowmelt.adapters import decoder, from_flow
from snowmelt.core import RectifiedFlow
from snowmelt.denoisers import GaussianMixture
from snowmelt.editing import image_to_image, variations
from snowmelt.models import DiffusionModel

SEEDS = [3, 4, 5]


class Decode(nn.Module):
    """A linear map of latents (2, 2, 2) to images (1, 4, 4), which counts what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 16)
        self.sizes = []

    def forward(self, latents):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.sizes.append(len(latents))
        return self.layer(latents.flatten(1)).view(-1, 1, 4, 4)


def latent_model():
    """A flow whose samples are far outside [-1, 1], where clipping would show."""
    return from_flow(lambda x, time, class_labels: x - 4.0, (2, 2, 2))


def test_samples_are_the_decoded_latents():
    decode = Decode()
    latents = DiffusionSampler(latent_model(), solver="heun", steps=4, threshold=None)
    *_, state = latents.trajectory(3, seeds=SEEDS)
    assert state.x_t.abs().max() > 1
    sampler = DiffusionSampler(latent_model().with_decoder(decode), solver="heun", steps=4, threshold=None)
    samples = sampler.sample(3, seeds=SEEDS)
    weight, bias = decode.layer.weight, decode.layer.bias
    expected = (state.x_t.flatten(1) @ weight.T + bias).view(-1, 1, 4, 4).clamp(-1, 1)
    torch.testing.assert_close(samples, expected)
    assert not torch.equal(samples, torch.ones_like(samples))
    assert decode.training  # as it was before


def test_decoding_happens_once_and_in_micro_batches():
    decode = Decode()
    sampler = DiffusionSampler(
        latent_model().with_decoder(decode), steps=3, solver="ddim", threshold=None, micro_batch=2
    )
    together = sampler.sample(3, seeds=SEEDS, batch_size=3)
    assert decode.sizes == [2, 2]
    assert torch.equal(sampler.sample(1, seeds=SEEDS[1:2], batch_size=1)[0], together[1])
    sampler.sample(3, batch_size=3)
    assert decode.sizes[3:] == [2, 1]


def test_latents_are_never_clipped():
    model = latent_model().with_decoder(Decode())
    assert DiffusionSampler(model).threshold is None
    with pytest.raises(ValueError, match="latents have no range that threshold 'clip' could keep"):
        DiffusionSampler(model, threshold="clip")


def test_another_data_range_is_a_matter_of_decoding():
    means = torch.rand(1, 1, 2, 2)  # of images in [0, 1]
    schedule = RectifiedFlow()
    mixture = GaussianMixture(means, 1e-3)
    native = DiffusionModel(
        lambda x, time, labels: mixture(x, schedule(time[0].item())),
        schedule,
        "x0",
        image_shape=(1, 2, 2),
        time="t",
    )
    model = native.with_decoder(lambda x: 2 * x - 1)
    samples = DiffusionSampler(model, solver="ddim", steps=5, threshold=None).sample(4)
    torch.testing.assert_close(samples, (2 * means - 1).expand(4, -1, -1, -1), atol=0.02, rtol=0)


def test_edits_decode_or_refuse():
    sampler = DiffusionSampler(latent_model().with_decoder(Decode()), solver="ddim", steps=3, threshold=None)
    assert variations(sampler, 3, 2, strength=0.2).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match="a decoder, but no encoder"):
        image_to_image(sampler, torch.zeros(1, 2, 2, 2), strength=0.5)


def test_the_decoder_of_an_autoencoder_is_diffusers():
    from diffusers import AutoencoderKL

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        autoencoder = AutoencoderKL(
            block_out_channels=(8,),
            norm_num_groups=4,
            latent_channels=2,
            scaling_factor=0.3,
            shift_factor=0.1,
        )
    latents = torch.randn(2, 2, 4, 4)
    with torch.no_grad():
        expected = autoencoder.decode(latents / 0.3 + 0.1).sample
        torch.testing.assert_close(decoder(autoencoder)(latents), expected)
