"""EDM's networks: ``net(x, sigma, class_labels) -> x0`` at x = x0 + sigma eps (Karras et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import one_hot

from snowmelt.core import VE
from snowmelt.models import DiffusionModel

__all__ = ["from_edm"]


class _OneHot(nn.Module):
    """Hands labels on as EDM's networks take them: one-hot rows, all zeros for the null class."""

    def __init__(self, net: Callable[..., Tensor], num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.num_classes = num_classes

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor) -> Tensor:
        return self.net(x, sigma, one_hot(class_labels, self.num_classes + 1)[:, :-1].to(x.dtype))


def from_edm(
    net: Callable[..., Tensor],
    image_shape: tuple[int, int, int],
    *,
    num_classes: int | None = None,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> DiffusionModel:
    """Return an EDM network, preconditioning included, as a model on the schedule `VE`.

    Args:
        net: (x, sigma, class_labels) -> x0, with sigma (B,), and class_labels (B, num_classes) one-hot; all
            zeros stand for no condition.
        image_shape: (C, H, W).
        num_classes: its label dimension; None for an unconditional one, which gets None as class_labels.
        sigma_min, sigma_max: the noise levels between which to sample.

    >>> from snowmelt import EDMSampler
    >>> net = lambda x, sigma, class_labels: x / (1 + sigma.view(-1, 1, 1, 1) ** 2)
    >>> EDMSampler(from_edm(net, (1, 2, 2)), steps=5).sample(3).shape
    torch.Size([3, 1, 2, 2])
    """
    return DiffusionModel(
        _OneHot(net, num_classes) if num_classes else net,
        VE(sigma_min, sigma_max),
        "x0",
        image_shape=image_shape,
        time="sigma",
        num_classes=num_classes,
        null_class=num_classes,
    )
