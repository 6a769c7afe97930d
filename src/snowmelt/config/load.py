"""From a YAML file to a `Config`, and back.

    file -> tree -> overrides merged in -> interpolations resolved -> validated

OmegaConf does the first three arrows and pydantic the last. Whatever goes wrong on the way is one
`ConfigError` that lists all problems, each with its key, what was given, what was expected, and where.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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

__all__ = ["ConfigError", "load_as", "load_config", "resolve_output_path", "save_config"]

Schema = TypeVar("Schema", bound=Section)

OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*=.*", re.DOTALL)


class ConfigError(InputError):
    """A configuration that cannot be used: the message names the file and lists every problem in it."""

    def __init__(self, path: Path, *problems: str) -> None:
        super().__init__("\n  ".join([f"{path} cannot be used:", *problems]))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file.

    Args:
        path: the file; ``-`` for none, where the overrides say everything.
        overrides: changes to it, ``key.sub=value`` each, the value in YAML; the last one for a key counts.
            Where the file says the same in another way, as ``sampler`` where ``preset`` is overridden, that
            is dropped.

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
        places |= {text.partition("=")[0]: f"override {text}" for text in overrides}
        whole = merged(schema, tree, OmegaConf.merge({}, *changes))
        data = OmegaConf.to_container(whole, resolve=True, throw_on_missing=True)
        return schema.model_validate(data)
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(path, f"{error.full_key}: {reason}" if error.full_key else reason) from error
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

    >>> from snowmelt.config.training import Data, Paths
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
            changes.append(OmegaConf.from_dotlist([text]))
        except (ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
            problems.append(f"override {text!r}: {error}")
    if problems:
        raise ConfigError(path, *problems)
    return changes


def _read(path: Path) -> tuple[DictConfig | ListConfig, dict[str, str]]:
    """Return the file's tree, and for each dotted key the line on which it stands."""
    if str(path) == "-":
        return OmegaConf.create({}), {}
    try:
        with path.open(encoding="utf-8") as file:
            root = yaml.compose(file, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode | None):
            kind = root.tag.rpartition(":")[2]
            raise ConfigError(path, f"expected keys with values, such as `mode: train`, got a YAML {kind}")
        return OmegaConf.load(path), {key: f"line {line}" for key, line in _lines(root)}
    except FileNotFoundError as error:
        raise ConfigError(path, "no such file; give the path of a YAML file") from error
    except OSError as error:
        raise ConfigError(path, f"it cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(path, f"it is not valid YAML: {error}") from error


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
        problems.setdefault(key, f"{key}: {problem}{place}")
    return list(problems.values())


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
    return f"given {json.dumps(details['input'], default=str)}, expected {expected}"


def _nearest(key: str, keys: Mapping[str, FieldInfo]) -> str:
    """Return a hint at what `key` was meant to be: a similar key beside it, or one of its name elsewhere."""
    parent, _, name = key.rpartition(".")
    beside = {path.rpartition(".")[2]: path for path in keys if path.rpartition(".")[0] == parent}
    similar = [beside[match] for match in difflib.get_close_matches(name, beside, n=1)]
    elsewhere = [path for path in keys if path.rpartition(".")[2] == name]
    meant = similar or elsewhere
    return f"did you mean {' or '.join(meant)}?" if meant else f"known here: {', '.join(beside)}"
