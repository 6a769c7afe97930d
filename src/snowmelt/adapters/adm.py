"""Networks of guided-diffusion (Dhariwal & Nichol 2021, "ADM"), whose weights our own U-Net takes."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.models import Checkpoint, DiffusionModel
from snowmelt.models.adm import adm_checkpoint
from snowmelt.models.checkpoint_file import read_contents

__all__ = ["from_adm", "read_adm"]


def read_adm(weights: str | PathLike[str] | Mapping[str, Tensor], **flags: Any) -> Checkpoint:
    """Return the checkpoint of a file or a state dict of guided-diffusion.

    Args:
        weights: a ``.pt`` file, which is read without running code, or a state dict of its UNetModel.
        flags: what the weights do not say, as the scripts of guided-diffusion name it: ``image_size``,
            ``num_head_channels`` or ``num_heads``, ``use_new_attention_order``, ``noise_schedule``,
            ``diffusion_steps``, ``predict_xstart``. Besides them ``has_null_class``, where the last label
            stands for no condition. For those that are left out, a published network has its own and any
            other the defaults of the scripts; a warning says which.

    Raises:
        InputError: the file is missing, broken or a folder, a flag is unknown, or it is another kind of
            network.
    """
    if isinstance(weights, Mapping):
        return adm_checkpoint(weights, **flags)
    path = Path(weights)
    if path.is_dir():
        raise InputError(f"flags are for a file of guided-diffusion, and {path} is a folder: leave them out")
    return adm_checkpoint(read_contents(path)["model_state_dict"], path, **flags)


def from_adm(weights: str | PathLike[str] | Mapping[str, Tensor], **flags: Any) -> DiffusionModel:
    """Return a network of guided-diffusion as a model, built by `snowmelt.networks.UNet`.

    Arguments and errors are those of `read_adm`.

    >>> from snowmelt import DiffusionSampler
    >>> model = from_adm("64x64_diffusion.pt", image_size=64, noise_schedule="cosine")  # doctest: +SKIP
    >>> DiffusionSampler(model).sample(4, class_labels=[207] * 4).shape  # doctest: +SKIP
    torch.Size([4, 3, 64, 64])
    """
    return read_adm(weights, **flags).model()
