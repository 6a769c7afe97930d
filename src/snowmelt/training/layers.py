"""Layers that learn otherwise than the rest: not at all, at another rate, or later.

They are named by patterns of the network's parameters, such as ``down_blocks.0`` for all of a stage or
``*.norm1.*`` for all norms of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch.nn import Parameter
from torch.optim import Optimizer

from snowmelt.errors import InputError
from snowmelt.models import DiffusionModel
from snowmelt.text import counted, some

__all__ = ["BEGIN", "freeze", "set_rates"]

BEGIN = "begins_at"  # of a group of parameters: the share of the run from which on it learns


def freeze(model: DiffusionModel, patterns: Sequence[str]) -> list[str]:
    """Keep parameters as they are, for good, and return a line that says how many.

    Raises:
        InputError: a pattern matches nothing that learns, or nothing is left to learn.
    """
    frozen = []
    for pattern in patterns:
        frozen += [each.requires_grad_(False) for each in learning(model, pattern, "freeze")]
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("training.init.freeze: the patterns match all parameters: nothing is left to learn")
    number = sum(parameter.numel() for parameter in frozen)
    return [f"Frozen: {number:,} of {model.num_parameters:,} parameters ({some(patterns)})"] if frozen else []


def set_rates(
    optimizer: Optimizer, model: DiffusionModel, rates: Mapping[str, float], unfreeze: Mapping[str, float]
) -> list[str]:
    """Split an optimizer's groups into those of one learning rate each, and return a line for each pattern.

    Args:
        optimizer: new, with one learning rate for all.
        model: whose parameters it has.
        rates: by pattern, what multiplies the learning rate.
        unfreeze: by pattern, the share of the run from which on the parameters learn.

    Raises:
        InputError: a pattern matches nothing that learns.
    """
    settings: dict[Parameter, tuple[float, float]] = {}
    lines = []
    for pattern, factor in rates.items():
        found = learning(model, pattern, "rates")
        settings |= dict.fromkeys(found, (factor, 0.0))
        lines.append(f"Learning rate x {factor:g}: {counted(len(found), 'tensor')} ({pattern})")
    for pattern, share in unfreeze.items():
        found = learning(model, pattern, "unfreeze")
        settings |= {parameter: (settings.get(parameter, (1.0, 0.0))[0], share) for parameter in found}
        lines.append(f"Frozen until {share:.0%} of the run: {counted(len(found), 'tensor')} ({pattern})")
    groups = []
    for group in optimizer.param_groups:
        parts: dict[tuple[float, float], list[Parameter]] = {(1.0, 0.0): []}  # what is shown comes first
        for parameter in group["params"]:
            parts.setdefault(settings.get(parameter, (1.0, 0.0)), []).append(parameter)
        groups += [
            {**group, "params": parameters, "lr": factor * group["lr"], **({BEGIN: share} if share else {})}
            for (factor, share), parameters in parts.items()
            if parameters
        ]
    optimizer.param_groups[:] = groups
    return lines


def learning(model: DiffusionModel, pattern: str, key: str) -> list[Parameter]:
    """Return those parameters of a pattern that are not frozen.

    Raises:
        InputError: there are none.
    """
    found = [parameter for parameter in matching(model, pattern, key) if parameter.requires_grad]
    if not found:
        raise InputError(
            f"training.init.{key}: all that {pattern} matches is frozen already, so it would do nothing: "
            "leave it out here, or in training.init.freeze"
        )
    return found


def matching(model: DiffusionModel, pattern: str, key: str) -> list[Parameter]:
    """Return the parameters of a name, below a name, or of a pattern.

    Raises:
        InputError: there are none; the message has similar names.

    >>> from snowmelt.models import create_ddpm
    >>> model = create_ddpm(8, 1, 32, (1,))
    >>> len(matching(model, "conv_in", "freeze")), len(matching(model, "*.conv1.weight", "freeze"))
    (2, 7)
    """
    named = {name.removeprefix("network."): parameter for name, parameter in model.named_parameters()}
    below = f"{pattern}.*"
    found = [p for name, p in named.items() if fnmatchcase(name, pattern) or fnmatchcase(name, below)]
    if not found:
        parts = {name.rsplit(".", depth)[0]: None for name in named for depth in range(name.count(".") + 1)}
        near = get_close_matches(pattern, parts, n=3, cutoff=0.3) or list(parts)
        raise InputError(
            f"training.init.{key}: {pattern} matches no parameter of the network; names like it: {some(near)}"
        )
    return found
