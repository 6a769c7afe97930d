"""How uncertain the network is at each noise level, learned beside it.

No network knows noise at little noise, or the image at much; the errors of such levels are large whatever it
learns, and their gradients drown the others. With a learned u(lam), the loss of an image is

    error / exp(u(lam)) + u(lam),

which is smallest where exp(u) is the mean error of the level. There, all levels count alike. Up to a constant
it is minus twice the log likelihood of a Gaussian of variance exp(u). Source: Kendall et al. 2018 (Multi-Task
Learning Using Uncertainty), eq. 7; Karras et al. 2024 (EDM2), eq. 14 and 15.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snowmelt.errors import InputError
from snowmelt.networks.embeddings import FourierFeatures

__all__ = ["Uncertainty"]

_FAR = 20.0  # there, SNR is exp(40) or exp(-40): levels beyond are the clean image and pure noise


class Uncertainty(nn.Module):
    """The learned u(lam): a linear layer on Fourier features, which starts as 0.

    It takes part in training only. Its parameters belong to the optimizer beside those of the model.

    Args:
        channels: number of features, even.

    >>> Uncertainty()(torch.tensor([-torch.inf, 0.0, 3.0]))
    tensor([0., 0., 0.], grad_fn=<SumBackward1>)
    """

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        # Karras et al. 2024, appendix B: features of c_noise = ln(sigma) / 4, with frequencies of variance 1
        self.features = FourierFeatures(channels, scale=0.25)
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, lam: Tensor) -> Tensor:
        """Map (B,) half log signal-to-noise ratios, which may be infinite, to (B,) log variances."""
        sigma = lam.clamp(-_FAR, _FAR).neg().exp()  # over alpha
        # Not a product of matrices, which mixed precision would round
        u: Tensor = (self.features(sigma) * self.weight).sum(1)
        return u

    def learned_by(self, optimizer: Optimizer) -> Uncertainty:
        """Return this one; raise InputError unless an optimizer has its parameters."""
        if not any(
            self.weight is parameter for group in optimizer.param_groups for parameter in group["params"]
        ):
            raise InputError(
                "the optimizer has no parameters of the uncertainty, which would never learn: make it over "
                "[*model.parameters(), *uncertainty.parameters()]"
            )
        return self
