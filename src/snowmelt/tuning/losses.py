"""Losses: how much a student's distance from its teacher counts, by image.

A loss is a function of e^2, the mean squared error of each image, and of a scale delta. It returns the loss
and its slope in e^2. The slope is the image's weight in iteratively reweighted least squares: with it,
Levenberg and Marquardt's method minimises any of them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["LOSSES", "Loss", "huber", "squares"]

Loss = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def squares(error: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """The mean squared error itself, in which the few worst images count most."""
    del delta
    return error, error.new_ones(error.shape)


def huber(error: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Quadratic below an error of delta and linear above: 2 delta^2 (sqrt(1 + e^2 / delta^2) - 1).

    Where two images part, a small error sends a noise to the other one. Such an image is lost, and should not
    decide the table for all others.

    >>> import torch
    >>> loss, slope = huber(torch.tensor([0.0, 1e4]), delta=1.0)
    >>> slope
    tensor([1.0000, 0.0100])
    """
    root = (1 + error / delta**2).sqrt()
    return 2 * delta**2 * (root - 1), 1 / root


LOSSES: dict[str, Loss] = {"huber": huber, "squares": squares}
