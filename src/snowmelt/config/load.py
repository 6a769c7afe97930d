"""From a YAML file to a `Config`, and back.

    file -> tree -> overrides merged in -> interpolations resolved -> validated

OmegaConf does the first three arrows and pydantic the last. Whatever goes wrong on the way is one
`ConfigError` that lists all problems, each with its key, what was given, what was expected, and where.

A file says the same everywhere: an interpolation refers to other keys of it, never to the environment.
"""

from __future__ import annotations

import difflib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from snowmelt.config.overriding import merged
from snowmelt.config.schema import Config, Subdirs, known_keys
from snowmelt.config.section import Section
from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.text import shortened

__all__ = ["ConfigError", "load_as", "load_config", "resolve_output_path", "save_config"]

Schema = TypeVar("Schema", bound=Section)

OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*=.*", re.DOTALL)
LARGEST = 100_000  # values of a file, with those that aliases repeat
DEEPEST = 50  # levels of sections and lists
MOST = 20  # problems in a message


class ConfigError(InputError):
    """A configuration that cannot be used: the message names the file and lists every problem in it."""

    def __init__(self, path: Path, *problems: str) -> None:
        super().__init__("\n  ".join([f"{path} cannot be used:", *problems]))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file.

    Args:
        path: the file; ``-`` for none, where the overrides say everything.
        overrides: changes to it, ``key.sub=value`` each, the value in YAML; the last one for a key counts.
            Where the file says the same in another way, as ``sampler`` where ``preset`` is overridden, or
            ``num_samples`` where ``seeds`` is, that is dropped.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, an override is malformed, or keys or values
            are not those of `Config`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "digits.yaml"
    ...     _ = path.write_text("data: {paths: {train: digits}}")
    ...     config = load_config(path, ["training.epochs=5", "model.architecture.image_size=8"])
    >>> config.data.paths.train, config.training.epochs
    ('digits', 5)
    """
    return load_as(Config, path, overrides)


def load_as(schema: type[Schema], path: str | Path, overrides: Sequence[str] = ()) -> Schema:
    """Read and validate a YAML file whose keys are those of `schema`; otherwise as `load_config`."""
    path = Path(path)
    changes = _parse(path, overrides)
    try:
        tree, places = _read(path)
        places |= {text.partition("=")[0]: f"override {shortened(text)}" for text in overrides}
        if outside := [line for part in (tree, *changes) for line in _outside(part)]:
            raise ConfigError(path, *outside)
        whole = merged(schema, tree, OmegaConf.merge({}, *changes))
        data = OmegaConf.to_container(whole, resolve=True, throw_on_missing=True)
        return schema.model_validate(data)
    except OmegaConfBaseException as error:
        reason = shortened(str(error).partition("\n")[0])
        raise ConfigError(path, f"{error.full_key}: {reason}" if error.full_key else reason) from error
    except RecursionError as error:
        raise ConfigError(path, "an interpolation ${...} refers to itself: write the value out") from error
    except ValidationError as error:
        raise ConfigError(path, *_problems(error, places, dict(known_keys(schema)))) from error


def save_config(config: Config, path: str | Path) -> None:
    """Write `config`, defaults included, as a YAML file that `load_config` reads back as the same.

    To generate, the network comes from the checkpoint: then `model` is written as it was stated, so that
    defaults are not taken for claims about that network.
    """
    data = config.model_dump(mode="json")
    if config.mode == "generate":
        data["model"] = config.model.model_dump(mode="json", exclude_unset=True)
    with atomic_write(path, "w") as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create(data)))


def resolve_output_path(config: Config, name: Literal["logs", "checkpoints", "samples", "generated"]) -> Path:
    """Return the folder for `name`, a key of `output.subdirs`. It need not exist.

    >>> from snowmelt.config.data import Data, Paths
    >>> resolve_output_path(Config(data=Data(paths=Paths(train="digits"))), "samples").as_posix()
    'outputs/diffusion/samples'
    """
    if name not in Subdirs.model_fields:
        raise ValueError(f"name must be one of {', '.join(Subdirs.model_fields)}, got {name!r}")
    return Path(config.output.base_dir, getattr(config.output.subdirs, name))


def _parse(path: Path, overrides: Sequence[str]) -> list[DictConfig]:
    """Return what each override changes, as a tree with one leaf."""
    changes, problems = [], []
    for text in overrides:
        try:
            if not OVERRIDE.fullmatch(text):
                raise ValueError("expected key.sub=value, such as training.epochs=5")
            with _yaml_errors():
                _compose(text.partition("=")[2])
                changes.append(OmegaConf.from_dotlist([text]))
        except (ValueError, OmegaConfBaseException) as error:
            problems.append(f"override {shortened(repr(text))}: {error}")
    if problems:
        raise ConfigError(path, *problems)
    return changes


def _read(path: Path) -> tuple[DictConfig | ListConfig, dict[str, str]]:
    """Return the file's tree, and for each dotted key the line on which it stands."""
    if str(path) == "-":
        return OmegaConf.create({}), {}
    try:
        text = path.read_text(encoding="utf-8")
        with _yaml_errors():
            root = _compose(text)
            if not isinstance(root, yaml.MappingNode | None):
                kind = root.tag.rpartition(":")[2]
                raise ConfigError(
                    path, f"expected keys with values, such as `mode: train`, got a YAML {kind}"
                )
            return OmegaConf.load(io.StringIO(text)), {key: f"line {line}" for key, line in _lines(root)}
    except FileNotFoundError as error:
        raise ConfigError(path, "no such file; give the path of a YAML file") from error
    except OSError as error:
        raise ConfigError(path, f"it cannot be read: {error.strerror}") from error
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(path, f"it is not valid YAML: {error}") from error


@contextmanager
def _yaml_errors() -> Iterator[None]:
    """Turn what YAML's reader raises into a ValueError: a tag that does not fit its value has many ways."""
    try:
        yield
    except RecursionError as error:
        raise ValueError("sections and lists are nested too deeply") from error
    except (LookupError, AttributeError, TypeError) as error:
        raise ValueError("a value does not fit its tag, such as !!int or !!timestamp") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _compose(text: str) -> yaml.Node | None:
    """Return the nodes of a YAML text; aliases are not followed, but what they amount to is checked.

    Raises:
        ValueError: an alias stands inside its own anchor, or the text amounts to too much.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    sizes: dict[int, int | None] = {}

    def size(node: Any, depth: int) -> int:
        if depth > DEEPEST:
            raise ValueError(f"sections and lists are nested more than {DEEPEST} deep")
        if id(node) not in sizes:
            sizes[id(node)] = None
            parts = (
                [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
            )
            parts = node.value if isinstance(node, yaml.SequenceNode) else parts
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        known = sizes[id(node)]
        if known is None:
            line = node.start_mark.line + 1
            raise ValueError(f"an alias refers to the section or list around it, which line {line} begins")
        return known

    if root is not None and (total := size(root, 0)) > LARGEST:
        raise ValueError(f"with its aliases it has {total:,} values, more than {LARGEST:,}")
    return root


def _outside(tree: Any) -> Iterator[str]:
    """Yield a problem for each value that asks something other than the file, as ``${oc.env:HOME}`` does."""
    for key, text in _texts(OmegaConf.to_container(tree, resolve=False)):
        rest, plain = None, text
        while rest != plain:  # take away, from the inside out, what refers to keys
            rest, plain = plain, re.sub(r"\$\{[^${}:]*\}", "", plain)
        if found := re.search(r"\$\{[^}]*:.*", plain, re.DOTALL):
            yield (
                f"{key}: given {shortened(found[0])}, which asks something other than this file: write the "
                "value out, or give it as an override"
            )


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, f"{key}.{name}" if key else str(name))


def _lines(node: Any, parent: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{parent}{key.value}", key.start_mark.line + 1
            yield from _lines(value, f"{parent}{key.value}.")
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, f"{parent}{index}.")


def _problems(error: ValidationError, places: Mapping[str, str], keys: Mapping[str, FieldInfo]) -> list[str]:
    """Return one sentence for each key that `error` complains about."""
    problems: dict[str, str] = {}
    for details in error.errors():
        if details["type"] == "default_factory_not_called":
            continue  # this default follows from a key with a problem of its own
        location = [str(part) for part in details["loc"]]
        key = ".".join(location)
        if details["type"] in ("extra_forbidden", "invalid_key"):
            problem = f"unknown key; {_nearest(_unnumbered(key), keys)}"
        else:
            # pydantic goes on below our keys, into the branches of a union and the items of a list
            ends = (end for end in range(len(location), 0, -1) if not location[end - 1].isdecimal())
            parents = (".".join(location[:end]) for end in ends)
            key = next(parent for parent in parents if _unnumbered(parent) in keys)
            problem = _mismatch(keys[_unnumbered(key)], details)
        place = f" ({places[key]})" if key in places else ""
        problems.setdefault(key, f"{shortened(key)}: {problem}{place}")
    shown = list(problems.values())[:MOST]
    return [*shown, f"and {len(problems) - MOST} more"] if len(problems) > MOST else shown


def _unnumbered(key: str) -> str:
    """Return a key without the places in lists that it goes through.

    >>> _unnumbered("compare.samplers.0.type")
    'compare.samplers.type'
    """
    return re.sub(r"\.\d+(?=\.|$)", "", key)


def _mismatch(field: FieldInfo, details: ErrorDetails) -> str:
    """Return what was given for a key and what was expected."""
    expected = field.description or re.sub(r"^\w+ should (be |have )?", "", details["msg"])
    match details["type"]:
        case "missing" if details["input"] is None:  # else an item of a list is missing
            return f"missing, expected {expected}"
        case "model_type":
            expected = "keys with values; leave it out for the defaults"
        case "value_error":
            expected = str(details["ctx"]["error"])
    return f"given {shortened(json.dumps(details['input'], default=str))}, expected {expected}"


def _nearest(key: str, keys: Mapping[str, FieldInfo]) -> str:
    """Return a hint at what `key` was meant to be: a similar key beside it, or one of its name elsewhere."""
    parent, _, name = key.rpartition(".")
    beside = {path.rpartition(".")[2]: path for path in keys if path.rpartition(".")[0] == parent}
    similar = [beside[match] for match in difflib.get_close_matches(name, beside, n=1)]
    elsewhere = [path for path in keys if path.rpartition(".")[2] == name]
    meant = similar or elsewhere
    return f"did you mean {' or '.join(meant)}?" if meant else f"known here: {', '.join(beside)}"
