"""EDM2's averages: their closed form, and those of any width that snapshots make."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn
from typer.testing import CliRunner

from snowmelt import EMA, DiffusionDataLoader, DiffusionTrainer, create_ddpm
from snowmelt.cli import app
from snowmelt.config.training import Ema
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint
from snowmelt.models.post_hoc import synthesised
from snowmelt.models.power_ema import WIDEST, exponent_of, inner_product, snapshot_weights, width_of
from snowmelt.training.snapshots import Snapshots


def make_model():
    return create_ddpm(8, 1, 4, (1,), norm_groups=2, attention_head_dim=4, layers_per_block=1)


WIDTHS = st.floats(0.005, 0.28)


@given(st.floats(0.0, 1e4))
def test_the_exponent_of_a_width_is_the_one_whose_width_it_is(gamma):
    assert exponent_of(width_of(gamma)) == pytest.approx(gamma, rel=1e-6, abs=1e-6)


def test_the_papers_widths():
    """Karras et al. 2024, section 3.1: widths of 0.05 and 0.10 are exponents of 16.97 and 6.94."""
    assert (round(exponent_of(0.05), 2), round(exponent_of(0.10), 2)) == (16.97, 6.94)


@given(width=WIDTHS, walk=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12))
def test_the_average_is_that_of_the_telescoped_product(width, walk):
    """Step tau weighs (tau / t)^(gamma + 1) - ((tau - 1) / t)^(gamma + 1)."""
    model = nn.Linear(1, 1, bias=False)
    ema = EMA(model, width=width)
    for value in walk:
        nn.init.constant_(model.weight, value)
        ema.update()
    power, t = exponent_of(width) + 1, len(walk)
    factors = [(tau / t) ** power - ((tau - 1) / t) ** power for tau in range(1, t + 1)]
    expected = sum(factor * value for factor, value in zip(factors, walk, strict=True))
    assert ema.shadow["weight"].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(WIDTHS)
def test_the_width_is_a_share_of_the_run(width):
    power, t = exponent_of(width) + 1, 5000
    taus = torch.arange(0, t + 1, dtype=torch.float64) / t
    factors = taus.pow(power).diff()
    mean = (factors * taus[1:]).sum()
    assert (factors * (taus[1:] - mean) ** 2).sum().sqrt().item() == pytest.approx(width, rel=2e-3)


@given(st.floats(1, 20), st.floats(0, 20), st.floats(1, 20), st.floats(0, 20))
def test_the_inner_product_is_the_integral(t, gamma, other_t, other_gamma):
    def profile(tau: float, end: float, exponent: float) -> float:
        return (exponent + 1) * (tau / end) ** exponent / end

    integral, _ = quad(lambda x: profile(x, t, gamma) * profile(x, other_t, other_gamma), 0, min(t, other_t))
    assert inner_product(t, gamma, other_t, other_gamma) == pytest.approx(integral, rel=1e-6)


@given(WIDTHS)
def test_what_stands_still_is_its_own_average(width):
    times, gammas = [10, 20, 30, 40] * 2, [exponent_of(0.05)] * 4 + [exponent_of(0.1)] * 4
    assert sum(snapshot_weights(times, gammas, 40, exponent_of(width))) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A random walk, its snapshots, and averages that were tracked directly."""
    folder = tmp_path_factory.mktemp("walk")
    model = make_model()
    direct = {width: EMA(model, width=width) for width in (0.05, 0.07, 0.12, 0.2)}
    snapshots, steps = Snapshots(model, 16), 480
    generator = torch.Generator().manual_seed(0)
    parameters = list(model.parameters())
    with torch.no_grad():
        for step in range(1, steps + 1):
            for parameter in parameters:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
            for ema in (*direct.values(), snapshots):
                ema.update()
            if snapshots.is_due((step - 1) / steps, step / steps):
                snapshots.write(folder, Checkpoint.of(model), snapshots.shadows(), step)
    Checkpoint.of(model, training={"epoch": 1}).write(folder / "latest.pth")
    return folder, direct


def distance(one, other) -> float:
    return math.sqrt(sum((one[name] - other[name]).square().sum() for name in one))


@pytest.mark.parametrize("width", [0.05, 0.07, 0.12, 0.2])
def test_the_average_made_afterwards_is_the_one_that_was_tracked(walked, width):
    """To 2 % of what lies between it and the latest weights; 0.05 is there, but for float16."""
    folder, direct = walked
    assert len(list((folder / "ema").iterdir())) == 2 * 16
    made = synthesised(folder, width)
    error = distance(made.ema["shadow"], direct[width].shadow)
    assert error < (0.002 if width == 0.05 else 0.02) * distance(made.weights, direct[width].shadow)
    assert made.training == {}
    assert made.ema["num_updates"] == 480


def test_averages_that_began_at_another_step_do_not_mix(walked, tmp_path):
    folder, _ = walked
    model = synthesised(folder, 0.1).model()
    snapshots = Snapshots(model, 1)
    snapshots.update()
    snapshots.write(tmp_path, Checkpoint.of(model), snapshots.shadows(), 1)
    later = Snapshots(model, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    later.update()
    later.write(tmp_path, Checkpoint.of(model), later.shadows(), 9)
    Checkpoint.of(model).write(tmp_path / "latest.pth")
    assert not any(value.any() for value in synthesised(tmp_path, 0.1).ema["shadow"].values())


def test_the_command_writes_what_samples(walked, tmp_path):
    folder, _ = walked
    out = tmp_path / "wide.safetensors"
    done = CliRunner().invoke(app, ["ema", str(folder), "--width", "0.2", "--out", str(out), "--json"])
    assert (done.exit_code, out.exists()) == (0, True), done.output
    assert json.loads(done.stdout) == {"checkpoint": str(out), "width": 0.2}
    ema = Checkpoint.read(out).averaged(make_model())
    assert (ema.width, ema.num_updates) == (0.2, 480)
    wrong = {"snapshots": [str(tmp_path), "--width", "0.2"], "0.2886": [str(folder), "--width", "0.3"]}
    for said, words in wrong.items():
        refused = CliRunner().invoke(app, ["ema", *words])
        assert refused.exit_code == 2
        assert said in refused.output


@pytest.mark.parametrize("width", [0.0, -0.1, 0.29, math.nan, True])
def test_a_width_out_of_range_is_refused(width):
    with pytest.raises(ValueError, match="share of the run"):
        EMA(nn.Linear(1, 1), width=width)


def test_a_file_states_a_decay_or_a_width():
    assert (Ema().decay, Ema().width, Ema(decay=0.9).width) == (None, 0.1, None)
    stated = Ema(width=WIDEST)
    assert Ema.model_validate(stated.model_dump(mode="json")) == stated
    with pytest.raises(ValueError, match="state one of the two"):
        Ema(width=0.1, decay=0.9)


def test_a_resumed_run_has_the_same_averages_and_snapshots_to_the_bit(tmp_path):
    def make(seed: int = 0, snapshots: int = 3) -> DiffusionTrainer:
        torch.manual_seed(seed)
        model = make_model()
        data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return DiffusionTrainer(model, data, optimizer, ema_width=0.1, snapshots=snapshots)

    whole = make()
    whole.train(3, tmp_path / "whole")
    make().train(1, tmp_path / "first")
    resumed = make(seed=1)
    resumed.load_checkpoint(tmp_path / "first" / "latest.pth")
    resumed.train(3, tmp_path / "resumed")
    there, here = (tmp_path / name / "ema" for name in ("whole", "resumed"))
    assert [path.name[-7 - 12 :] for path in sorted(there.iterdir())][:3] == [
        f"{step:07d}.safetensors" for step in (3, 6, 9)
    ]
    for name in ("ema_0.050_0000009.safetensors", "ema_0.100_0000006.safetensors"):
        assert Checkpoint.read(there / name) == Checkpoint.read(here / name)
    one, other = whole.ema.state_dict()["shadow"], resumed.ema.state_dict()["shadow"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    make(snapshots=0).train(1, tmp_path / "none")
    with pytest.warns(UserWarning, match="no tracked averages"):
        make().load_checkpoint(tmp_path / "none" / "latest.pth")


def test_a_folder_without_snapshots_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"training\.ema\.snapshots"):
        synthesised(tmp_path, 0.1)
