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

    >>> from snowmelt.config.generation import Sampling
    >>> tree = OmegaConf.create({"sampler": {"type": "ddim", "steps": 20}, "num_samples": 4})
    >>> merged(Sampling, tree, OmegaConf.create({"preset": "draft"}))
    {'num_samples': 4, 'preset': 'draft'}
    """
    result = OmegaConf.merge(tree)
    for group in _alternatives(schema):
        stated = {key for key in group if _find(change, key) is not None}
        for key in set(group) - stated if stated else ():
            parent, _, name = key.rpartition(".")
            section = _find(result, parent) if parent else result
            if isinstance(section, DictConfig):
                section.pop(name, None)
    try:
        return OmegaConf.merge(result, change)
    except TypeError as error:
        raise OmegaConfBaseException(
            "an override names keys of a section where the file has a list"
        ) from error


def _find(tree: Any, key: str) -> Any:
    return OmegaConf.select(tree, key, throw_on_resolution_failure=False)


def _alternatives(section: type[Section], parent: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the groups of alternative keys of a section and the sections in it, as dotted paths."""
    for group in section.alternatives:
        yield tuple(parent + name for name in group)
    for name, field in section.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):
            if inspect.isclass(kind) and issubclass(kind, Section):
                yield from _alternatives(kind, f"{parent}{name}.")
