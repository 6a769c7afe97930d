"""Files of guided-diffusion, against a U-Net and an objective written from the papers, under its names."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.adapters import from_adm, read_adm
from snowmelt.config import Config
from snowmelt.errors import InputError
from snowmelt.models.adm import layout
from snowmelt.models.adm_flags import usual_flags
from snowmelt.training import denoising_loss
from snowmelt.training.start import Start


class Residual(nn.Module):
    """Dhariwal & Nichol 2021, section 3 and 3.1."""

    def __init__(self, before: int, count: int, condition: int, scaled: bool, resample=lambda x: x):
        super().__init__()
        self.scaled, self.resample = scaled, resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, count, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * count if scaled else count))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, count), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(count, count, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(before, count, 1) if before != count else nn.Identity()

    def forward(self, x, condition):
        norm, act, convolve = self.in_layers
        h = convolve(self.resample(act(norm(x))))
        told = self.emb_layers(condition)[:, :, None, None]
        norm, *rest = self.out_layers
        if self.scaled:
            y_s, y_b = told.split(h.shape[1], dim=1)
            h = (1 + y_s) * norm(h) + y_b
        else:
            h = norm(h + told)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self.resample(x)) + h


class Attention(nn.Module):
    """Vaswani et al. 2017, eq. 1, with q, k and v of a pixel in one vector, in two orders."""

    def __init__(self, count: int, heads: int, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv = nn.GroupNorm(32, count), nn.Conv1d(count, 3 * count, 1)
        self.proj_out = nn.Conv1d(count, count, 1)

    def forward(self, x, condition):
        pixels = x.flatten(2)
        qkv = self.qkv(self.norm(pixels))
        if self.new_order:
            q, k, v = qkv.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            q, k, v = qkv.unflatten(1, (self.heads, 3, -1)).unbind(2)
        weights = torch.einsum("bhdi,bhdj->bhij", q, k).div(math.sqrt(q.shape[2])).softmax(-1)
        attended = torch.einsum("bhij,bhdj->bhdi", weights, v).flatten(1, 2)
        return x + self.proj_out(attended).view_as(x)


class Resample(nn.Module):
    def __init__(self, count: int, down: bool):
        super().__init__()
        if down:
            self.op = nn.Conv2d(count, count, 3, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(count, count, 3, padding=1)

    def forward(self, x, condition):
        return self.op(x) if hasattr(self, "op") else self.conv(F.interpolate(x, scale_factor=2.0))


class Theirs(nn.Module):
    """The U-Net of guided-diffusion, with its names: two stages, one layer, attention on the lower one."""

    def __init__(self, channels=3, out=3, classes=5, heads=2, scaled=False, resnet=False, new_order=False):
        super().__init__()
        a, b, condition = 32, 64, 128
        residual = lambda before, count, **options: Residual(before, count, condition, scaled, **options)  # noqa: E731
        attend = lambda: Attention(b, heads, new_order)  # noqa: E731
        down = residual(a, a, resample=nn.AvgPool2d(2)) if resnet else Resample(a, True)
        up = residual(b, b, resample=nn.Upsample(scale_factor=2.0)) if resnet else Resample(b, False)
        block = nn.ModuleList
        self.time_embed = nn.Sequential(nn.Linear(a, condition), nn.SiLU(), nn.Linear(condition, condition))
        if classes:
            self.label_emb = nn.Embedding(classes, condition)
        first = nn.Conv2d(channels, a, 3, padding=1)
        self.input_blocks = block(
            [
                block([first]),
                block([residual(a, a)]),
                block([down]),
                block([residual(a, b), attend()]),
            ]
        )
        self.middle_block = block([residual(b, b), attend(), residual(b, b)])
        self.output_blocks = block(
            [
                block([residual(b + b, b), attend()]),
                block([residual(b + a, b), attend(), up]),
                block([residual(b + a, a)]),
                block([residual(a + a, a)]),
            ]
        )
        self.out = nn.Sequential(nn.GroupNorm(32, a), nn.SiLU(), nn.Conv2d(a, out, 3, padding=1))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(self, x, timesteps, labels=None):
        rates = 10000 ** (-torch.arange(16) / 16)
        phases = timesteps[:, None] * rates
        condition = self.time_embed(torch.cat([phases.cos(), phases.sin()], 1))
        if labels is not None:
            condition = condition + self.label_emb(labels)
        skips = []
        for layers in self.input_blocks:
            for layer in layers:
                x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, condition)
            skips.append(x)
        for layer in self.middle_block:
            x = layer(x, condition)
        for layers in self.output_blocks:
            x = torch.cat([x, skips.pop()], 1)
            for layer in layers:
                x = layer(x, condition)
        return self.out(x)


NETWORKS = {
    "plain": {},
    "learned variance, scale and shift, resampling blocks": {"out": 6, "scaled": True, "resnet": True},
    "new order": {"new_order": True},
    "gray, no classes": {"channels": 1, "out": 2, "classes": None, "scaled": True},
}
KNOWN = {"image_size": 8, "noise_schedule": "linear", "diffusion_steps": 4, "predict_xstart": False}
KNOWN |= {"has_null_class": False, "num_heads": 2}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=list(NETWORKS))
def test_the_network_says_the_same(options):
    theirs = Theirs(**options)
    order = options.get("new_order", False)
    ours = from_adm(theirs.state_dict(), use_new_attention_order=order, **KNOWN).network
    x, time = torch.randn(3, options.get("channels", 3), 8, 8), torch.tensor([0.0, 1.5, 999.0])
    labels = torch.tensor([0, 4, 2]) if options.get("classes", 5) else None
    with torch.no_grad():
        expected = theirs(x, time, labels)
        torch.testing.assert_close(ours(x, time, labels), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


# -- learned variance ----------------------------------------------------------------------------------


def hybrid_loss(theirs, betas, x0, index, eps, labels):
    """Nichol & Dhariwal 2021, eq. 16, in bits per dimension, image by image."""
    alphas = 1 - betas
    bars = alphas.cumprod(0)
    before = torch.cat([torch.ones(1), bars[:-1]])
    posterior = betas * (1 - before) / (1 - bars)
    losses = []
    for k, clean, noise, label in zip(index, x0, eps, labels, strict=True):
        noisy = bars[k].sqrt() * clean + (1 - bars[k]).sqrt() * noise
        said, v = theirs(noisy[None], k[None].float(), label[None])[0].split(3)
        simple = (said - noise).square().mean()
        f, low = (v + 1) / 2, posterior[max(k, 1)]
        variance = betas[k] ** f * low ** (1 - f)
        # DDPM eq. 11: the mean, in terms of the noise
        mean = (noisy - betas[k] / (1 - bars[k]).sqrt() * said.detach()) / alphas[k].sqrt()
        if k == 0:
            step = Normal(mean, variance.sqrt())
            upper = step.cdf(clean + 1 / 255).where(clean < 0.999, torch.ones(()))
            lower = step.cdf(clean - 1 / 255).where(clean > -0.999, torch.zeros(()))
            nats = -(upper - lower).clamp(min=1e-12).log()
        else:
            coefficient = before[k].sqrt() * betas[k] / (1 - bars[k])
            true = coefficient * clean + alphas[k].sqrt() * (1 - before[k]) / (1 - bars[k]) * noisy
            nats = torch.distributions.kl_divergence(Normal(true, low.sqrt()), Normal(mean, variance.sqrt()))
        losses.append(simple + 0.001 * len(betas) * nats.mean() / math.log(2))
    return torch.stack(losses).mean()


def test_a_training_step_is_the_same():
    theirs = Theirs(out=6)
    model = from_adm(theirs.state_dict(), use_new_attention_order=False, **KNOWN)
    x0 = torch.randint(0, 256, (8, 3, 8, 8)) / 127.5 - 1
    labels = torch.arange(8) % 5
    drawn = torch.Generator().manual_seed(0)
    index = torch.randint(4, (8,), generator=drawn)
    eps = torch.randn(x0.shape, generator=drawn)
    assert {0, 1, 3} <= set(index.tolist())  # the first index has a term of its own
    expected = hybrid_loss(theirs, torch.linspace(1e-4, 0.02, 4), x0, index, eps, labels)
    loss = denoising_loss(model, x0, labels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for network, of in ((theirs, expected), (model, loss)):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        of.backward()
        optimizer.step()
    trained = read_adm(theirs.state_dict(), use_new_attention_order=False, **KNOWN).weights
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, trained[name], atol=1e-5, rtol=1e-5, msg=name)


def test_an_ancestral_step_adds_the_learned_noise():
    theirs = Theirs(out=6)
    model = from_adm(theirs.state_dict(), use_new_attention_order=False, **KNOWN)
    x_t, noise, labels = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.tensor([1, 3])
    betas = torch.linspace(1e-4, 0.02, 4)
    bars = (1 - betas).cumprod(0)
    with torch.no_grad():
        v = theirs(x_t, torch.full((2,), 2.0), labels)[:, 3:]
        posterior = betas[2] * (1 - bars[1]) / (1 - bars[2])
        variance = betas[2] ** ((v + 1) / 2) * posterior ** ((1 - v) / 2)
        quiet = model.denoise_step(x_t, 2, labels, noise=torch.zeros_like(noise))
        step = model.denoise_step(x_t, 2, labels, noise=noise)
    torch.testing.assert_close(step - quiet, variance.sqrt() * noise, atol=1e-6, rtol=1e-4)
    with pytest.warns(UserWarning, match="adds the same noise to all pixels"):
        DiffusionSampler(model, solver="sa_solver", steps=3)
    assert model.sample(2, labels).shape == (2, 3, 8, 8)


# -- what a file says and what it does not -------------------------------------------------------------


def test_a_file_is_known_by_its_names_and_says_what_it_took(tmp_path):
    torch.save(Theirs(heads=1).state_dict(), tmp_path / "model.pt")
    with pytest.warns(UserWarning, match=r"may be wrong: image_size=32, num_heads=4, .*diffusion_steps=1000"):
        checkpoint = Checkpoint.read(tmp_path / "model.pt")
    assert checkpoint.spec.image_size == (32, 32)
    assert checkpoint.num_classes == 5
    assert not checkpoint.spec.has_null_class
    with warnings.catch_warnings(action="error"):
        again = read_adm(tmp_path / "model.pt", use_new_attention_order=False, **KNOWN)
    assert again.spec.image_size == (8, 8)
    assert again.model().schedule.num_timesteps == 4


def test_a_start_takes_the_flags_that_an_import_takes(tmp_path):
    def start(path, **flags) -> Start:
        init = {"path": str(path), "flags": {**KNOWN, "use_new_attention_order": True, **flags}}
        config = {"data": {"paths": {"train": "digits"}}, "training": {"init": init}}
        return Start(Config.model_validate(config))

    torch.save(Theirs().state_dict(), tmp_path / "model.pt")
    options = start(tmp_path / "model.pt").model_options()  # a warning would be an error
    expected = read_adm(tmp_path / "model.pt", use_new_attention_order=True, **KNOWN).spec.to_config()
    assert options["num_timesteps"] == expected["num_timesteps"] == 4
    assert options["attention_heads"] == expected["attention_heads"] == 2
    with pytest.raises(InputError, match="image_sise is no flag of guided-diffusion"):
        start(tmp_path / "model.pt", image_sise=8)
    with pytest.raises(InputError, match="is a folder: leave them out"):
        start(tmp_path)


def published(channels, layers, multipliers, attended, resnet=True, scaled=True):
    """The way up of guided-diffusion's UNetModel as names and shapes, in tensors without memory."""
    shapes = {
        "input_blocks.0.0.weight": (channels, 3, 3, 3),
        "time_embed.0.weight": (4 * channels, channels),
        "out.2.weight": (6, channels, 3, 3),
    }
    blocks = [(i, j) for i in reversed(range(len(multipliers))) for j in range(layers + 1)]
    for number, (i, j) in enumerate(blocks):
        block, width = f"output_blocks.{number}", multipliers[i] * channels
        for layer in ("in_layers.2", "out_layers.3"):
            shapes[f"{block}.0.{layer}.weight"] = (width, width, 3, 3)
        shapes[f"{block}.0.emb_layers.1.weight"] = ((1 + scaled) * width, 4 * channels)
        if i in attended:
            shapes[f"{block}.1.qkv.weight"] = (3 * width, width, 1)
        if i and j == layers:
            last = f"{block}.{1 + (i in attended)}"
            shapes[f"{last}.in_layers.2.weight" if resnet else f"{last}.conv.weight"] = (width, width, 3, 3)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# From the READMEs of guided-diffusion and improved-diffusion
ADM_64 = (192, 3, [1, 2, 3, 4], {1, 2, 3})
FLAGS = ("image_size", "num_heads", "num_head_channels", "use_new_attention_order", "noise_schedule")


@pytest.mark.parametrize(
    ("network", "flags"),
    [
        (ADM_64, (64, None, 64, True, "cosine", 1000)),
        ((256, 2, [1, 1, 2, 3, 4], {2, 3, 4}), (128, 4, None, False, "linear", 1000)),
        ((256, 2, [1, 1, 2, 2, 4, 4], {3, 4, 5}), (256, None, 64, False, "linear", 1000)),
        ((192, 3, [1, 2, 3, 4], {2, 3}, False), (64, 4, None, False, "cosine", 4000)),
        ((128, 2, [1, 1, 2, 2, 4, 4], {4}, False, False), (256, 1, None, False, "linear", 1000)),
        ((128, 2, [1, 2, 3, 4], {2, 3}, False), (64, 4, None, False, "linear", 1000)),  # of the scripts
    ],
)
def test_published_networks_are_known_by_their_shapes(network, flags):
    usual = usual_flags(layout(published(*network))[1], {})
    assert tuple(usual[name] for name in (*FLAGS, "diffusion_steps")) == flags


def test_what_is_stated_comes_before_what_was_published():
    options = layout(published(*ADM_64))[1]
    usual = usual_flags(options, {"num_heads": 4, "noise_schedule": "linear"})
    assert tuple(usual[name] for name in FLAGS) == (64, 4, None, True, "linear")


@pytest.mark.parametrize(
    ("change", "flags", "problem"),
    [
        ({}, {"image_sise": 8}, "image_sise is no flag"),
        ({}, {"num_heads": 3}, "an attention of 64 channels has no heads"),
        ({"extra.weight": torch.zeros(1)}, {}, r"it has extra\.weight"),
        ({"out.2.weight": torch.zeros(5, 32, 3, 3)}, {}, "it makes 5 channels of 3"),
        ({"time_embed.0.weight": torch.zeros(128, 64)}, {}, "time has 64 features"),
        ({"input_blocks.0.0.weight": torch.zeros(3)}, {}, "weights of other shapes"),
        ({"out.2.bias": torch.full((3,), torch.nan)}, {}, r"out\.2\.bias are not finite"),
    ],
)
def test_what_cannot_be_is_refused(change, flags, problem):
    with pytest.raises(InputError, match=problem):
        read_adm({**Theirs().state_dict(), **change}, **{**KNOWN, "use_new_attention_order": False, **flags})


def test_a_part_that_is_missing_is_named():
    weights = {name: value for name, value in Theirs().state_dict().items() if "output_blocks" not in name}
    with pytest.raises(InputError, match=r"but no output_blocks\.0\.0"):
        read_adm(weights, **KNOWN)
