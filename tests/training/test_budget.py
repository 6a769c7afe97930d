"""Runs by the clock end on time with their schedules complete, and a proposal fits data, machine and time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
from snowmelt.config import load_config
from snowmelt.errors import InputError
from snowmelt.models import ModelSpec
from snowmelt.text import duration, seconds_in
from snowmelt.training import clock
from snowmelt.training.proposal import Look, propose, settled
from snowmelt.training.proposal.propose import LEAST, Candidate

CPU = torch.device("cpu")
RATE = 1e-3


@given(st.integers(0, 30), st.integers(0, 59), st.integers(1, 59))
def test_a_time_is_read_as_it_is_written(hours, minutes, seconds):
    assert seconds_in(f"{hours}h {minutes}m {seconds}s") == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "m", "1.2.3h", "-5m", "30m2h", "inf", "1e3s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="such as 90s, 30m"):
        seconds_in(text)


def test_a_long_time_is_said_in_its_unit():
    assert [duration(seconds_in(text)) for text in ("90s", "30m", "2h")] == [
        "90 seconds",
        "30 minutes",
        "2 hours",
    ]


class Machine:
    """A clock on which each look takes `pace` seconds."""

    def __init__(self, pace):
        self.pace, self.now = pace, 0.0

    def __call__(self):
        self.now += self.pace
        return self.now


def trained(monkeypatch, pace, seconds=100.0):
    monkeypatch.setattr(clock, "perf_counter", Machine(pace))
    torch.manual_seed(0)
    model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4, num_classes=10)
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    trainer = DiffusionTrainer(model, data, optimizer, rate_schedule="linear")
    trainer.train(num_seconds=seconds)
    return trainer


def test_a_slower_machine_takes_fewer_steps_and_completes_its_schedule(monkeypatch):
    fast, slow = (trained(monkeypatch, pace) for pace in (2.0, 4.0))
    for trainer in (fast, slow):
        done = trainer.progress
        assert 100 - done.ending <= done.seconds <= 100 + 2 * trainer.length.amount / done.global_step
        assert trainer.optimizer.param_groups[0]["lr"] < RATE * 2.5 / done.global_step
    assert fast.global_step == pytest.approx(2 * slow.global_step, rel=0.2)


def test_only_a_run_by_the_clock_counts_seconds():
    model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4)
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=360)
    trainer = DiffusionTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.train(num_steps=1)
    assert (trainer.progress.seconds, trainer.progress.ending) == (0.0, 0.0)


def speed(spec, batch_size, device):
    """A machine for which a pixel and a channel cost always the same."""
    pixels = (spec.image_size[0] // spec.network_options["patch_size"]) ** 2
    return 3e8 / (pixels * spec.network_options["model_channels"] ** 2)


@pytest.fixture(scope="module", autouse=True)
def _each_network_is_counted_once():
    """Dozens of proposals look at the same networks."""
    weights, known = Candidate.weights.func, {}

    def counted(candidate):
        key = repr(candidate.spec)
        if key not in known:
            known[key] = weights(candidate)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Candidate, "weights", property(counted))
        yield


def look(side, channels=3, classes=None):
    return Look("pictures", 1000, side, channels, classes or {})


@settings(max_examples=20)  # each looks at dozens of networks
@given(st.integers(8, 600), st.integers(1, 600), st.integers(1, 60))
def test_more_time_never_gives_a_smaller_image(side, minutes, more):
    less, most = (
        propose(look(side), f"{time}m", CPU, speed).config["model"]["architecture"]
        for time in (minutes, minutes + more)
    )
    assert less["image_size"] <= most["image_size"] <= side
    if less["image_size"] == most["image_size"]:
        assert less["model_channels"] <= most["model_channels"]


@pytest.mark.parametrize("side", [8, 20, 28, 32, 64, 100, 250, 600])
@pytest.mark.parametrize("minutes", [1, 30, 3000])
def test_a_proposal_is_a_file_that_runs(tmp_path, side, minutes):
    path = tmp_path / "budget.yaml"
    path.write_text(propose(look(side, classes={"a": 10, "b": 990}), f"{minutes}m", CPU, speed).text())
    config = load_config(path)
    model = ModelSpec.from_config(config.model.options()).build()
    assert model.image_shape == (3, *[config.model.architecture.image_size] * 2)
    assert config.training.budget == f"{minutes}m"


@pytest.mark.parametrize(
    "architecture",
    [
        {"image_size": 16},
        {"image_size": [24, 40]},
        {"model_channels": 48},
        {"image_size": 64, "patch_size": 8, "channel_multipliers": [1, 2]},
        {"type": "dit", "model_channels": 64, "depth": 2},
    ],
    ids=str,
)
def test_a_network_is_measured_as_it_is_stated(architecture):
    measured = []

    def measuring(spec, batch_size, device):
        measured.append(spec)
        return 1000.0 if spec.network_options["model_channels"] < 100 else 0.0

    stated = {"model": {"architecture": architecture}, "data": {"loading": {"batch_size": 5}}}
    config = propose(look(256), "2h", CPU, measuring, stated).config
    assert architecture.items() <= config["model"]["architecture"].items()
    assert config["data"]["loading"]["batch_size"] == 5
    for spec in measured:
        options = {"image_size": [*spec.image_size], **spec.network_options}
        side = options["image_size"]
        known = {**options, "image_size": side[0] if side[0] == side[1] else side, "type": spec.network}
        assert all(known[key] == value for key, value in architecture.items())


def test_a_precision_that_is_stated_is_not_measured():
    stated = {"compute": {"precision": "fp32"}}
    proposal = propose(look(8), "2h", CPU, lambda *_: 1000.0, stated)
    assert settled(proposal, look(8), CPU) is proposal


def test_a_proposal_says_when_the_time_is_too_short():
    reasons = propose(look(64), "1s", CPU, speed).reasons
    assert f"It should see {LEAST:,} images" in reasons[-1]
    assert len(propose(look(64), "10h", CPU, speed).reasons) == len(reasons) - 1


def test_images_are_looked_at(tmp_path):
    for name, size, colour in (
        ("0", (30, 40), (9, 9, 9)),
        ("1", (50, 50), (8, 8, 8)),
        ("2", (20, 90), (7, 7, 7)),
    ):
        place = tmp_path / name
        place.mkdir()
        Image.new("RGB", size, colour).save(place / "picture.png")
    found = Look.at(str(tmp_path))
    assert (found.images, found.side, found.in_channels) == (3, 30, 1)
    assert found.classes == {"0": 1, "1": 1, "2": 1}
    Image.new("RGB", (30, 30), (90, 0, 0)).save(tmp_path / "0" / "red.png")
    assert Look.at(str(tmp_path)).in_channels == 3


def test_a_look_at_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        Look.at(str(tmp_path))
    with pytest.raises(InputError, match="neither a file nor a folder"):
        Look.at("nowhere")
