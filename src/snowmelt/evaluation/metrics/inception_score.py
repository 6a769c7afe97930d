"""Inception score (Salimans et al. 2016, "Improved techniques for training GANs"): whether a classifier is
sure of each image, and whether all images together show all classes.

    IS = exp(mean_i KL(p(y | x_i) || p(y))),   p(y) = mean_i p(y | x_i)

As in torch-fidelity it is the mean over ten parts of the images, in a fixed random order.

**Interval.** The derivative towards p(y) vanishes, so an image's influence on log IS is its KL divergence,
and the standard error of IS is IS times that of the mean divergence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snowmelt.evaluation.features import Features
from snowmelt.evaluation.uncertainty import Estimate, estimate, group_order, influence_std

__all__ = ["inception_score"]


def inception_score(generated: Features, real: object = None, *, splits: int = 10) -> Estimate:
    """Return the inception score with its 95 % interval: between 1 and the number of classes.

    Args:
        generated: with probabilities.
        real: not used; every metric takes it.
        splits: the number of parts, >= 1; at most the number of images.

    Raises:
        ValueError: there are no probabilities, since the extractor is not a classifier.

    >>> sure = torch.eye(5).repeat(20, 1)  # of each of five classes, in equal numbers
    >>> round(inception_score(Features(sure, probabilities=sure), splits=1).value, 6)
    5.0
    """
    if generated.probabilities is None:
        raise ValueError(
            "the inception score needs class probabilities, which these features lack: take the extractor "
            "inception or classifier"
        )
    if splits < 1:
        raise ValueError(f"splits must be at least 1, got {splits}")
    if len(generated) == 0:
        raise ValueError("the inception score needs images, got none")
    probabilities = generated.probabilities.detach().cpu().double()[group_order(len(generated))]
    parts = [_divergences(part) for part in probabilities.tensor_split(min(splits, len(generated)))]
    scores = torch.stack([part.mean().exp() for part in parts])
    value = float(scores.mean())
    note = f"mean over {len(parts)} parts" if len(parts) > 1 else ""
    return estimate(value, value * influence_std(torch.cat(parts)), len(generated), None, note=note)


def _divergences(probabilities: Tensor) -> Tensor:
    """Return KL(p_i || mean p) for each row; a probability of 0 contributes 0."""
    marginal = probabilities.mean(dim=0)
    return (torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, marginal)).sum(dim=1)
