"""Overrides of a file: they count, also where the file says the same thing in another way."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snowmelt.config.section import Section

__all__ = ["merged"]


def merged(schema: type[Section], tree: Any, change: Any) -> Any:
    """Return the tree with a change; of alternatives, what the change states replaces what the tree states.

    So does what the change states replace what follows from it.

    >>> from snowmelt.config.generation import Sampling
    >>> tree = OmegaConf.create({"sampler": {"type": "ddim", "steps": 20}, "num_samples": 4})
    >>> merged(Sampling, tree, OmegaConf.create({"preset": "draft"}))
    {'num_samples': 4, 'preset': 'draft'}
    >>> merged(Sampling, tree, OmegaConf.create({"seeds": [1, 2]}))
    {'sampler': {'type': 'ddim', 'steps': 20}, 'seeds': [1, 2]}
    """
    result = OmegaConf.merge(tree)
    for key, others in _replacements(schema):
        for other in others if _find(change, key) is not None else ():
            parent, _, name = other.rpartition(".")
            section = _find(result, parent) if parent else result
            if isinstance(section, DictConfig) and _find(change, other) is None:
                section.pop(name, None)
    try:
        return OmegaConf.merge(result, change)
    except TypeError as error:
        raise OmegaConfBaseException(
            "an override names keys of a section where the file has a list"
        ) from error


def _find(tree: Any, key: str) -> Any:
    return OmegaConf.select(tree, key, throw_on_resolution_failure=False)


def _replacements(section: type[Section], parent: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield keys of a section and the sections in it, with those whose place they take, as dotted paths."""
    groups = [(key, set(group) - {key}) for group in section.alternatives for key in group]
    groups += [(key, {decided}) for decided, keys in section.decided.items() for key in keys]
    for key, others in groups:
        yield parent + key, [parent + other for other in others]
    for name, field in section.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):
            if inspect.isclass(kind) and issubclass(kind, Section):
                yield from _replacements(kind, f"{parent}{name}.")
