"""Models between snowmelt's checkpoints and the formats of others: what `snowmelt import` and `export` do."""

from __future__ import annotations

import warnings
from pathlib import Path

from snowmelt.adapters.diffusers import read_folder, write_folder
from snowmelt.denoisers import DDPMModel, create_ddpm
from snowmelt.errors import InputError, as_input_errors
from snowmelt.models.checkpoint import load_weights, read_checkpoint, save_checkpoint

__all__ = ["export_model", "import_model"]


def import_model(folder: Path, out: Path) -> DDPMModel:
    """Write the model in a diffusers folder as a checkpoint, and return it.

    The weights are tried in the network first, so that whatever is written can be sampled from.

    Args:
        folder: of a UNet2DModel, or of a pipeline with one.
        out: ends in ``.safetensors`` or ``.pth``.

    Raises:
        InputError: the folder cannot be read, or its model cannot be expressed.
    """
    if out.suffix not in (".safetensors", ".pth"):
        raise InputError(f"--out is a file *.safetensors or *.pth, got {out.name!r}")
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder; expected one of diffusers, with model_index.json or config.json"
        )
    checkpoint = read_folder(folder)
    with as_input_errors():
        model = create_ddpm(**checkpoint["model_config"])
    load_weights(model, checkpoint["model_state_dict"], source=folder)
    save_checkpoint(checkpoint, out)
    return model


def export_model(
    checkpoint: Path, folder: Path, *, use_ema: bool = True, license: str = "unknown", overwrite: bool = False
) -> None:
    """Write the model in a checkpoint as a folder of diffusers' DDPMPipeline.

    Warns where EMA weights are asked for and absent.

    Args:
        checkpoint: file of `snowmelt.models.checkpoint.save_checkpoint`.
        folder: to make.
        use_ema: write the EMA weights, where there are some.
        license: of the model card.
        overwrite: replace an earlier export.

    Raises:
        InputError: the checkpoint cannot be used, or there is something in the folder already.
    """
    contents = read_checkpoint(checkpoint)
    if use_ema and "ema_state_dict" not in contents:
        warnings.warn(
            f"{checkpoint} has no EMA weights: the weights themselves are written; --no-ema asks for that",
            stacklevel=2,
        )
    with as_input_errors():
        write_folder(contents, folder, use_ema=use_ema, license=license, overwrite=overwrite)
