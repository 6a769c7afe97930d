"""A configuration for images and a time: what this machine can learn of them until then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import takewhile
from math import gcd, log2, prod
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from snowmelt.config import Config, load_config
from snowmelt.config.model import Model, usual_patch_size
from snowmelt.config.overriding import merged
from snowmelt.models import ModelSpec
from snowmelt.precision import AUTO
from snowmelt.text import counted, seconds_in
from snowmelt.training.proposal.look import Look
from snowmelt.training.proposal.speed import faster_precision, images_per_second

__all__ = ["Proposal", "as_they_are", "minimal", "propose", "settled"]

SIZES = (256, 128, 64, 32, 16, 8)  # pixels a side
WIDTHS = (32, 48, 64, 96, 128, 192, 256)
SMALLEST_MAP = 4  # pixels a side, in the middle of the network
MOST_STAGES = 4
A_WEIGHT = 0.02  # images that a network should see for each of its weights
LEAST = 20_000  # images that any network should see
TRAINING = 0.9  # share of the time that steps take; the rest is for the start, samples and checkpoints
BATCH = {"cpu": 16, "cuda": 128}
STEPS = 10_000  # of a run with larger batches
LOOKS = 8  # times that samples are drawn and checkpoints written
GUIDANCE = 2.0  # of these samples
WRAPPED = 100  # characters of a line of comments

Speed = Callable[[ModelSpec, int, torch.device], float]


@dataclass(frozen=True)
class Proposal:
    """A configuration, and why it is what it is.

    Attributes:
        config: as a file has it.
        reasons: sentences.
    """

    config: Mapping[str, Any]
    reasons: tuple[str, ...]

    def text(self) -> str:
        """Return a file that can be run again; the reasons are comments."""
        comments = "\n".join(
            fill(reason, WRAPPED, initial_indent="# ", subsequent_indent="#   ") for reason in self.reasons
        )
        return f"{comments}\n\n{yaml.safe_dump(dict(self.config), sort_keys=False)}"

    def changed(self, changes: Mapping[str, Any]) -> Proposal:
        """Return it with other values for some keys, which take the place of what says the same otherwise.

        >>> Proposal({"training": {"budget": "1h"}}, ()).changed({"training": {"steps": 5}}).config
        {'training': {'steps': 5}}
        """
        trees = (OmegaConf.create(dict(each)) for each in (self.config, changes))
        config: Any = OmegaConf.to_container(merged(Config, *trees))
        return replace(self, config=config)

    def words(self) -> list[str]:
        """Return the configuration as words of the command line.

        >>> Proposal({"mode": "train", "data": {"paths": {"train": "digits"}}}, ()).words()
        ['mode="train"', 'data.paths.train="digits"']
        """
        return [f"{key}={json.dumps(value)}" for key, value in _leaves(self.config)]


@dataclass(frozen=True)
class Candidate:
    """A network, and how many images it would see."""

    spec: ModelSpec
    speed: float
    seconds: float

    @property
    def seen(self) -> int:
        return int(self.speed * self.seconds)

    @cached_property
    def weights(self) -> int:
        with torch.device("meta"):  # they are counted, and hold nothing
            return self.spec.build().num_parameters

    @property
    def sees_enough(self) -> bool:
        return self.seen >= max(LEAST, A_WEIGHT * self.weights)


def minimal(look: Look, budget: str) -> Proposal:
    """Return what every proposal for these images says: what they are, and how long the run is."""
    place = Path(look.path.partition(":")[0]).resolve()
    config = {
        "experiment": place.stem if place.is_file() else place.name,
        "mode": "train",
        "data": {"paths": {"train": look.path}},
        "training": {"budget": budget},
    }
    return Proposal(config, (f"{look}",))


def as_they_are(images: str, overrides: Sequence[str] = ()) -> Config:
    """Return a configuration that takes images as they are: in the size and the colours that they have.

    Args:
        images: as `open_images` takes them.
        overrides: changes to it.

    >>> as_they_are("digits:test").model.architecture.image_size
    8
    """
    look = Look.at(images)
    shape = {"image_size": look.side, "in_channels": look.in_channels}
    words = [f"model.architecture.{key}={value}" for key, value in shape.items()]
    return load_config("-", [*minimal(look, "1h").words(), *words, *overrides])


def propose(
    look: Look,
    budget: str,
    device: torch.device,
    speed: Speed | None = None,
    stated: Mapping[str, Any] | None = None,
) -> Proposal:
    """Return a configuration that trains on the images until the budget is over.

    The size is the largest one that the images have and at which the narrowest network sees enough of them.
    The network is the widest one of that size that does.

    Args:
        look: at the images.
        budget: the time, such as ``30m``.
        device: where the run will be.
        speed: measures the images a second that a model learns from, in batches of some size; by default
            this machine.
        stated: keys that are not to be chosen, as a file has them.
    """
    stated = stated or {}
    network = stated.get("model", {}).get("architecture", {})
    fixed = stated.get("data", {}).get("loading", {}).get("batch_size")
    batch_size = fixed or min(BATCH.get(device.type, BATCH["cuda"]), look.images)
    measure = speed or partial(images_per_second, precision=_precision(stated) or AUTO)

    @cache
    def candidate(size: int, width: int) -> Candidate:
        section = Model.model_validate(_model(look, size, width, stated))
        spec = ModelSpec.from_config({**section.options(), "num_classes": len(look.classes) or None})
        few = max(1, min(batch_size, batch_size * 32**2 // prod(spec.image_size)))  # large ones fill a device
        return Candidate(spec, measure(spec, few, device), TRAINING * seconds_in(budget))

    sizes = [_side(network["image_size"])] if "image_size" in network else list(_sizes(look.side))
    widths = [network["model_channels"]] if "model_channels" in network else list(WIDTHS)
    chosen = next(filter(None, (_widest(candidate, size, widths) for size in sizes)), None)
    chosen = chosen or candidate(sizes[-1], widths[0])
    while not fixed and chosen.seen >= 2 * batch_size * STEPS and 2 * batch_size <= look.images:
        batch_size *= 2
    return _completed(minimal(look, budget), look, chosen, batch_size, stated)


def settled(proposal: Proposal, look: Look, device: torch.device) -> Proposal:
    """Return a proposal that states a precision: its own, or the one that is faster here."""
    if _precision(proposal.config):
        return proposal
    options = Model.model_validate(proposal.config["model"]).options()
    spec = ModelSpec.from_config({**options, "num_classes": len(look.classes) or None})
    batch_size = proposal.config["data"]["loading"]["batch_size"]
    return proposal.changed({"compute": {"precision": faster_precision(spec, batch_size, device)}})


def _precision(config: Mapping[str, Any]) -> str | None:
    precision: str | None = config.get("compute", {}).get("precision")
    return precision


def _leaves(section: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of each key."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{path}", leaf) for path, leaf in _leaves(value))
        else:
            yield name, value


def _sizes(side: int) -> Iterator[int]:
    """Yield the sizes that images of this side have, from the largest; 28 and the like as they are."""
    if side < SIZES[0] and side % SMALLEST_MAP == 0 and side not in SIZES:
        yield side
    yield from [size for size in SIZES if size <= side] or SIZES[-1:]


def _side(size: int | list[int]) -> int:
    """Return a side that divides an image as [height, width] do together."""
    return size if isinstance(size, int) else gcd(*size)


def _widest(candidate: Callable[[int, int], Candidate], size: int, widths: Sequence[int]) -> Candidate | None:
    """Return the last of ever wider networks that see enough; None if the first one does not."""
    enough = takewhile(lambda each: each.sees_enough, (candidate(size, width) for width in widths))
    return max(enough, key=lambda each: each.weights, default=None)


def _model(look: Look, size: int, width: int, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of the model, in which what is stated stands as it is."""
    given = stated.get("model", {})
    network = given.get("architecture", {})
    patch_size = network.get("patch_size") or usual_patch_size(size)
    stages = 1 + int(log2(max(1, size // patch_size // SMALLEST_MAP)))
    while stages > 1 and size % (patch_size * 2 ** (stages - 1)):
        stages -= 1
    stages = min(stages, MOST_STAGES)
    of_unet = {"channel_multipliers": [1, *[2] * (stages - 1)], "norm_groups": 16}
    model = {
        "architecture": {
            "image_size": size,
            "in_channels": look.in_channels,
            "model_channels": width,
            **(of_unet if network.get("type", "unet") == "unet" else {}),
        },
        "conditioning": {"type": "class" if look.classes else "none"},
    }
    if not given:
        return model
    section: dict[str, Any] = Proposal({"model": model}, ()).changed({"model": given}).config["model"]
    return section


def _completed(
    proposal: Proposal, look: Look, chosen: Candidate, batch_size: int, stated: Mapping[str, Any]
) -> Proposal:
    """Return a proposal with the network and how it learns."""
    first = proposal.config
    epochs = max(1, round(chosen.seen / look.images / LOOKS))
    samples = 4 * max(4, min(len(look.classes), 16))
    size, width = _side([*chosen.spec.image_size]), chosen.spec.network_options["model_channels"]
    config = {
        **first,
        "model": _model(look, size, width, stated),
        "data": {**first["data"], "loading": {"batch_size": batch_size}},
        "training": {
            **first["training"],
            "checkpointing": {"save_frequency": epochs, "save_best_only": True},
            "visualization": {
                "interval": epochs,
                "num_samples": samples,
                "guidance_scale": GUIDANCE if look.classes else 0.0,
            },
        },
    }
    return Proposal(config, (*proposal.reasons, *_reasons(chosen, batch_size))).changed(stated)


def _reasons(chosen: Candidate, batch_size: int) -> Iterator[str]:
    size, width = chosen.spec.image_size, chosen.spec.network_options["model_channels"]
    yield (
        f"A network of {width} channels for {size[0]} x {size[1]} pixels has {chosen.weights:,} weights. "
        f"Here it learns from {chosen.speed:.3g} images a second, in all from about "
        f"{counted(chosen.seen, 'image')}, in batches of {batch_size}"
    )
    if not chosen.sees_enough:
        wanted = counted(max(LEAST, int(A_WEIGHT * chosen.weights)), "image")
        yield f"It should see {wanted}: expect blurred images, or give it more time"
