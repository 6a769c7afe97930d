"""What was trained, as one value: a model's spec and weights, and what belongs to them.

A checkpoint file is one dictionary, written whole or not at all and read without running code:

    model_state_dict       weights; the only key that must be there
    model_config           the spec of the model, flat (`ModelSpec.to_config`)
    num_classes            None for an unconditional model
    class_names            of the classes, in the order of their labels
    ema_state_dict         of `snowmelt.EMA`
    sampling               method, threshold and guidance, where the model states its own
    config                 the resolved YAML, for information only
    background             the colour behind transparent pixels of the training images
    format_version, snowmelt_version
    digest                 of all of the above; reading verifies it

What a trainer needs to resume stands beside them (optimizer_state_dict, rng_state, epoch, global_step, ...);
`Checkpoint.training` holds it. A ``.pth`` file is torch's own format and holds all of it. A ``.safetensors``
file leaves the states of optimizer, learning rate and random generators out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt._version import __version__
from snowmelt.digest import content_digest
from snowmelt.models.checkpoint_file import read_contents, write_contents
from snowmelt.models.ema import EMA
from snowmelt.models.model import DiffusionModel
from snowmelt.models.spec import ModelSpec
from snowmelt.models.weights import (
    CheckpointError,
    load_weights,
    name_file_in_errors,
    not_finite,
    unwrapped,
)
from snowmelt.notebook import html_facts
from snowmelt.plans import Method
from snowmelt.text import counted

__all__ = ["FORMAT_VERSION", "Checkpoint"]

FORMAT_VERSION = 2  # 1 had no digest, and the arguments of DiffusionSampler under `sampling`

_KEYS = frozenset(
    {
        "format_version",
        "snowmelt_version",
        "digest",
        "model_config",
        "model_state_dict",
        "num_classes",
        "class_names",
        "ema_state_dict",
        "sampling",
        "config",
    }
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as it was trained.

    Attributes:
        weights: the model's state dict.
        spec: how to build the model; None for weights that come without it.
        ema: the state of an `EMA`: averaged weights, decay and number of updates; None without one.
        class_names: of the classes, in the order of their labels; None where they are not known.
        num_classes: None for an unconditional model.
        method: how the model is best sampled, where it says so itself.
        threshold: as for `snowmelt.DiffusionSampler`; ``"auto"`` where the model says nothing.
        guidance: as for `snowmelt.DiffusionSampler`; None where the model says nothing.
        training: what a trainer needs in order to resume, and everything else that the file holds.
        config: the configuration of the run; nothing reads it back.
        source: the file or folder that it was read from.

    Two checkpoints are equal if their contents are, to the bit.

    >>> from tempfile import TemporaryDirectory
    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> with TemporaryDirectory() as folder:
    ...     Checkpoint.of(model).write(Path(folder) / "model.pth")
    ...     again = Checkpoint.read(Path(folder) / "model.pth")
    >>> again == Checkpoint.of(model), again.model().image_shape
    (True, (1, 8, 8))
    """

    weights: Mapping[str, Tensor]
    spec: ModelSpec | None = None
    ema: Mapping[str, Any] | None = None
    class_names: Sequence[str] | None = None
    num_classes: int | None = None
    method: Method | None = None
    threshold: str | Mapping[str, Any] | None = "auto"
    guidance: str | Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    source: Path | None = None

    @classmethod
    def of(cls, model: DiffusionModel, ema: EMA | None = None, **values: Any) -> Checkpoint:
        """Return the checkpoint of a model: its spec and its weights, which are not copied.

        Args:
            model: built by `create_model` or `create_ddpm`.
            ema: its averaged weights, if there are any.
            values: further attributes.
        """
        return cls(
            unwrapped(model.state_dict()),
            model.spec,
            ema.state_dict() if ema is not None else None,
            num_classes=model.num_classes,
            **values,
        )

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Checkpoint:
        """Return the checkpoint in a file or folder. No code in it is ever run.

        Args:
            path: a file of `write`; a state dict that torch.save or safetensors wrote, also one of
                guided-diffusion; or a folder of diffusers with a UNet2DModel, or a pipeline of one.

        What wrappers leave in names (``module.``, ``_orig_mod.``) is taken out.

        Raises:
            CheckpointNotFoundError: there is no such file.
            CheckpointError: it is broken, something else, refused because it could run code, made by a
                newer version of snowmelt, or has weights that are not finite.
            InputError: the folder's model cannot be expressed; the message names the option.
        """
        path = Path(path)
        if path.is_dir():
            from snowmelt.models.diffusers.folder import read_folder

            return read_folder(path)
        contents = read_contents(path)
        digest = contents.pop("digest", None)
        version = contents.get("format_version", FORMAT_VERSION)
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format {version}, made by snowmelt {contents.get('snowmelt_version')}; this is "
                f"snowmelt {__version__}, which reads up to {FORMAT_VERSION}: update snowmelt"
            )
        if digest is not None and content_digest(contents) != digest:
            raise CheckpointError(
                f"{path} is damaged: its contents are not those that were written. Copy it again, or take "
                "another one"
            )
        from snowmelt.models.adm import adm_checkpoint, is_adm

        if contents.keys() == {"model_state_dict"} and is_adm(contents["model_state_dict"]):
            return adm_checkpoint(contents["model_state_dict"], path)
        return cls._from_contents(contents, path)

    def write(self, path: str | PathLike[str]) -> None:
        """Write the checkpoint to `path`, whole or not at all.

        Args:
            path: ends in ``.safetensors`` for a file to sample from, which leaves the optimizer's and the
                generators' states out and turns tuples into lists; any other name gets everything.

        Raises:
            TypeError: it holds other objects than tensors, numbers, strings, lists and dictionaries, which
                `read` would refuse.
        """
        write_contents(self.to_dict(), Path(path))

    def to_dict(self) -> dict[str, Any]:
        """Return what `write` writes, by the keys of the file, without the digest."""
        sampling = {
            **({"method": self.method.to_dict()} if self.method is not None else {}),
            **({"threshold": self.threshold} if self.threshold != "auto" else {}),
            **({"guidance": self.guidance} if self.guidance is not None else {}),
        }
        optional = {
            "model_config": self.spec.to_config() if self.spec is not None else None,
            "ema_state_dict": self.ema,
            "class_names": list(self.class_names) if self.class_names is not None else None,
            "sampling": sampling or None,
            "config": self.config,
        }
        return {
            "format_version": FORMAT_VERSION,
            "snowmelt_version": __version__,
            "model_state_dict": dict(self.weights),
            "num_classes": self.num_classes,
            **{key: value for key, value in optional.items() if value is not None},
            **self.training,
        }

    @property
    def background(self) -> str | None:
        """The colour that transparent pixels were laid on in training; None where the file does not say it.

        Raises:
            CheckpointError: what it says is no colour.
        """
        from snowmelt.images import check_colour  # takes as long to import as torch

        config = self.config if isinstance(self.config, Mapping) else {}
        data = config.get("data")  # the only place before there was the key `background`
        older = data.get("background") if isinstance(data, Mapping) else None
        stated = self.training.get("background", older)
        with name_file_in_errors(self.source):
            return check_colour(stated) if stated is not None else None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the contents; the kind of file does not change it."""
        return content_digest({k: v for k, v in self.to_dict().items() if not k.endswith("_version")})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        parts = [
            counted(len(self.weights), "tensor"),
            counted(self.num_classes, "class") if self.num_classes else "no classes",
        ]
        parts += ["averaged"] if self.ema is not None else []
        parts += [f"method {self.method}"] if self.method is not None else []
        return f"<Checkpoint {self.source or 'in memory'}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """Return what it holds as a table, for a notebook."""
        numbers = sum(tensor.numel() for tensor in self.weights.values())
        spec = self.spec.to_config() if self.spec is not None else {}
        facts = {
            "file": self.source,
            "weights": f"{numbers:,}" + (", and their averages" if self.ema is not None else ""),
            "classes": ", ".join(self.class_names or ()) or self.num_classes,
            "method": self.method,
            **spec,
        }
        return html_facts("Checkpoint", facts)

    def model(self) -> DiffusionModel:
        """Return the model with its (raw) weights, on the CPU.

        Raises:
            CheckpointError: there is no spec, or spec and weights do not fit together.
        """
        name = self.source or "the checkpoint"
        if self.spec is None:
            raise CheckpointError(
                f"{name} holds weights but not the model's configuration: build the model with create_ddpm, "
                "load the weights with load_weights, and give the model to DiffusionSampler"
            )
        with name_file_in_errors(name):
            model = self.spec.build()
        load_weights(model, self.weights, source=name)
        return model

    def averaged(self, model: DiffusionModel, device: str | torch.device | None = None) -> EMA | None:
        """Return the averaged weights as the `EMA` of `model`.

        Warns where a file has none, and returns None; few folders of diffusers have some.
        """
        if self.ema is None:
            if self.source is not None and not self.source.is_dir():
                warnings.warn(
                    f"use_ema=True but checkpoint {self.source} has no EMA weights: falling "
                    "back to standard model weights. Train with training.ema.enabled: true, or ask for the "
                    "standard weights (use_ema=False, use_ema: false, --no-ema)",
                    stacklevel=3,
                )
            return None
        with name_file_in_errors(self.source):
            ema = EMA(model, device=device)
            ema.load_state_dict(self.ema)
        return ema

    @classmethod
    def _from_contents(cls, contents: Mapping[str, Any], path: Path) -> Checkpoint:
        with name_file_in_errors(path):
            _check_values(contents)
            config = contents.get("model_config")
            spec = ModelSpec.from_config(config) if config is not None else None
            sampling = dict(contents.get("sampling") or {})
            threshold = sampling.pop("threshold", "auto")
            guidance = sampling.pop("guidance", None)
            if contents.get("format_version", FORMAT_VERSION) == 1 and "solver" in sampling:
                # There, the arguments of DiffusionSampler stood as they were, and None meant every step
                steps = sampling.pop("steps", None)
                sampling = {"method": {**sampling, "steps": steps if steps is not None else "all"}}
            method = Method.from_dict(sampling["method"]) if "method" in sampling else None
        return cls(
            unwrapped(contents["model_state_dict"]),
            spec,
            contents.get("ema_state_dict"),
            contents.get("class_names"),
            contents.get("num_classes", spec.num_classes if spec is not None else None),
            method,
            threshold,
            guidance,
            {key: value for key, value in contents.items() if key not in _KEYS},
            contents.get("config"),
            path,
        )


def _check_values(contents: Mapping[str, Any]) -> None:
    """Refuse averages, names and numbers of another kind, and weights that are not finite."""
    num_classes, names = contents.get("num_classes"), contents.get("class_names") or []
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | None):
        raise TypeError(f"num_classes must be an integer or None, got {str(num_classes)[:40]!r}")
    if not all(isinstance(name, str) for name in names) or len(names) > (num_classes or len(names)):
        raise ValueError(f"class_names must be texts, at most one a class, and num_classes is {num_classes}")
    for key in ("model_state_dict", "ema_state_dict"):
        if spoilt := next(not_finite(contents.get(key) or {}), None):
            raise ValueError(f"the weights {spoilt} are not finite (NaN or infinity): the training diverged")
