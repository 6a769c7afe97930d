"""Networks in files: TorchScript and ONNX."""

from __future__ import annotations

import warnings
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError, optional
from snowmelt.evaluation.features.extractor import in_colour
from snowmelt.images import from_uint8

__all__ = ["OnnxExtractor", "TorchScriptExtractor"]


class TorchScriptExtractor:
    """A TorchScript module (``.pt``, ``.ts``): float32 images (B, C, H, W) in [-1, 1] to features (B, ...).

    Args:
        path: the file.
        channels: the number of channels that the module takes; with 3, gray images are given in three.
        device: where to compute.

    Raises:
        InputError: the file is missing or is not a TorchScript module.
    """

    def __init__(self, path: str | Path, *, channels: int = 3, device: str | torch.device = "cpu") -> None:
        self.name = _name(path)
        self.dim: int | None = None
        self.channels, self.device = channels, torch.device(device)
        try:
            with warnings.catch_warnings():  # torch announces a successor of TorchScript
                warnings.simplefilter("ignore", FutureWarning)
                self.module = torch.jit.load(str(path), map_location=self.device).eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as a TorchScript module ({str(error)[:200]}): "
                "save one with torch.jit.save"
            ) from error

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32 on the CPU, of images uint8 (B, C, H, W)."""
        x = in_colour(images) if self.channels == 3 else images
        with torch.no_grad():
            features: Tensor = self.module(from_uint8(x.to(self.device)))
        return features.flatten(1).float().cpu()


class OnnxExtractor:
    """An ONNX model (``.onnx``) with one input (B, C, H, W): uint8, or float32 in [-1, 1], as it declares.

    Its first output is the features. If the input has three channels, gray images are given in three.

    Args:
        path: the file.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or is not such a model.
    """

    def __init__(self, path: str | Path) -> None:
        onnxruntime = optional("onnxruntime", f"{path}", "evaluate")
        self.name = _name(path)
        self.dim: int | None = None
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), providers=onnxruntime.get_available_providers()
            )
        except Exception as error:  # onnxruntime's errors have no common class
            raise InputError(f"{path} cannot be read as an ONNX model: {str(error)[:200]}") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(str(each.shape) for each in inputs)
            raise InputError(f"{path} has the inputs {shapes}: one of four dimensions (B, C, H, W) is needed")
        self.input = inputs[0]

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of images uint8 (B, C, H, W)."""
        x = images if self.input.shape[1] == 1 else in_colour(images)
        x = x if "uint8" in self.input.type else from_uint8(x)
        features = self.session.run(None, {self.input.name: x.contiguous().cpu().numpy()})[0]
        return torch.from_numpy(features).flatten(1).float()


def _name(path: str | Path) -> str:
    try:
        return f"{Path(path).name}-{sha256(Path(path).read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise InputError(f"{path} cannot be read as an extractor: {error}") from error
