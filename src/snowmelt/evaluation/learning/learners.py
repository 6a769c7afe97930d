"""Learners: the small network, and a linear head on the features of a frozen extractor.

The second is what serves best where there are few images (Kornblith, Shlens and Le 2019, "Do better ImageNet
models transfer better?").
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from snowmelt.evaluation.features.extract import extract_features
from snowmelt.evaluation.features.extractor import Extractor
from snowmelt.evaluation.features.small_classifier import train_classifier
from snowmelt.evaluation.learning.recipes import Recipe, augment, class_balanced
from snowmelt.formats import ImageSource, TensorSource

__all__ = ["Learner", "LinearHead", "Loaded", "Network", "load"]

ROWS = 1024  # images in a call
COPIES, COPIES_IN_ALL = 8, 600  # augmented copies of an image, and of a set, for a linear head
PENALTIES = (0.01, 0.1, 1.0)  # C of the logistic regression; small is strong
ITERATIONS, TOLERANCE = 200, 1e-3  # the last digits decide nothing

Classify = Callable[[Tensor], Tensor]


class Loaded(NamedTuple):
    """Labelled images in memory, and where they came from."""

    source: ImageSource
    images: Tensor
    labels: Tensor


def load(source: ImageSource) -> Loaded:
    """Read labelled images.

    >>> from snowmelt.formats import open_images
    >>> load(open_images("digits:test")).images.shape
    torch.Size([360, 1, 8, 8])
    """
    assert source.labels is not None  # checked
    return Loaded(source, torch.cat(list(source.batches(ROWS))), source.labels)


class Learner(Protocol):
    """Something that learns classes from images.

    Attributes:
        name: what reports call it.
        strengths: values of the one setting that it has; validation images choose among them.
        seen: (N, ...) what it sees of each training image.
    """

    name: str
    strengths: tuple[float, ...]
    seen: Tensor

    def see(self, images: Loaded) -> Tensor:
        """Return what it sees of other images, one row for each."""

    def fit(self, rows: Tensor, recipe: Recipe, seed: int, strength: float) -> Classify:
        """Return a function that turns what is seen of B images into class probabilities (B, K).

        Args:
            rows: indices of the images to learn from.
            recipe: how to draw and change them.
            seed: of all that is drawn.
            strength: one of `strengths`.
        """


class Network:
    """The small network, trained from nothing.

    Args:
        sets: the images to learn from; `fit` counts through all of them.
        num_classes: K.
        steps: batches of 64 in each training.
        device: where to train.
    """

    name = "small network"
    strengths: tuple[float, ...] = (0.0,)  # none

    def __init__(
        self, sets: Sequence[Loaded], num_classes: int, steps: int, device: str | torch.device = "cpu"
    ) -> None:
        self.seen = torch.cat([each.images for each in sets])
        self.labels = torch.cat([each.labels for each in sets])
        self.num_classes, self.steps, self.device = num_classes, steps, device

    def see(self, images: Loaded) -> Tensor:
        """Return the images."""
        return images.images

    def fit(self, rows: Tensor, recipe: Recipe, seed: int, strength: float) -> Classify:
        """Train it in the given number of steps, whatever the number of images."""
        labels = self.labels[rows]
        network = train_classifier(
            self.seen[rows],
            labels,
            self.num_classes,
            steps=self.steps,
            seed=seed,
            device=self.device,
            weights=class_balanced(labels) if recipe.balanced else None,
            change=partial(augment, mirrored=recipe.mirrored) if recipe.augmented else _unchanged,
        )

        def classify(images: Tensor) -> Tensor:
            with torch.no_grad():
                parts = [network(part.to(self.device)).softmax(dim=1).cpu() for part in images.split(ROWS)]
            return torch.cat(parts)

        return classify


class LinearHead:
    """Logistic regression on the standardised features of an extractor that stays as it is.

    Balanced sampling is done with class weights. Augmentation adds features of changed copies: up to eight
    of an image and 600 of a set are made, and each seed takes half of them at random. Without augmentation
    nothing is drawn, and all seeds agree.

    Args:
        sets: the images to learn from; `fit` counts through all of them.
        num_classes: K.
        extractor: makes the features.
        cache: a folder that keeps them; None keeps nothing.
        show_progress: show a bar over the images.
    """

    name = "linear head"
    strengths: tuple[float, ...] = PENALTIES

    def __init__(
        self,
        sets: Sequence[Loaded],
        num_classes: int,
        extractor: Extractor,
        *,
        cache: str | Path | None = None,
        show_progress: bool = False,
    ) -> None:
        self.sets, self.num_classes = sets, num_classes
        self._extract = partial(
            extract_features, extractor=extractor, cache=cache, show_progress=show_progress
        )
        self.seen = torch.cat([self.see(each) for each in sets])
        self.labels = torch.cat([each.labels for each in sets])
        self._copies: dict[tuple[int, bool], tuple[Tensor, Tensor]] = {}
        self._fitted: dict[tuple[object, ...], Classify] = {}

    def see(self, images: Loaded) -> Tensor:
        """Return the features (N, D)."""
        return self._extract(images.source).values

    def fit(self, rows: Tensor, recipe: Recipe, seed: int, strength: float) -> Classify:
        """Fit it until it converges."""
        key = (rows.numpy().tobytes(), recipe, seed if recipe.augmented else None, strength)
        if key not in self._fitted:
            seen, labels = self.seen[rows], self.labels[rows]
            if recipe.augmented:
                copies, origins = self._copies_of(rows, recipe.mirrored, seed)
                seen, labels = torch.cat([seen, copies]), torch.cat([labels, self.labels[origins]])
            self._fitted[key] = _regression(seen, labels, self.num_classes, recipe.balanced, strength)
        return self._fitted[key]

    def _copies_of(self, rows: Tensor, mirrored: bool, seed: int) -> tuple[Tensor, Tensor]:
        """Return features of changed copies of some images, and the indices of these."""
        random, start, parts = torch.Generator().manual_seed(seed), 0, []
        for number, each in enumerate(self.sets):
            inside = (rows >= start) & (rows < start + len(each.labels))
            if bool(inside.any()):
                features, origins = self._copies_in(number, mirrored)
                usable = torch.isin(origins + start, rows[inside]).nonzero().flatten()
                chosen = usable[torch.randperm(len(usable), generator=random)[: (len(usable) + 1) // 2]]
                parts.append((features[chosen], origins[chosen] + start))
            start += len(each.labels)
        features, origins = (torch.cat(column) for column in zip(*parts, strict=True))
        return features, origins

    def _copies_in(self, number: int, mirrored: bool) -> tuple[Tensor, Tensor]:
        if (number, mirrored) not in self._copies:
            images = self.sets[number].images
            random = torch.Generator().manual_seed(number)
            order = torch.cat([torch.randperm(len(images), generator=random) for _ in range(COPIES)])
            origins = order[:COPIES_IN_ALL]
            changed = TensorSource(augment(images[origins], random, mirrored))
            self._copies[number, mirrored] = self._extract(changed).values, origins
        return self._copies[number, mirrored]


def _unchanged(images: Tensor, random: torch.Generator) -> Tensor:
    return images


def _regression(seen: Tensor, labels: Tensor, num_classes: int, balanced: bool, penalty: float) -> Classify:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = labels.unique()
    weight = "balanced" if balanced else None
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=penalty, class_weight=weight, max_iter=ITERATIONS, tol=TOLERANCE),
    )
    if len(known) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(seen.numpy(), labels.numpy())

    def classify(features: Tensor) -> Tensor:
        found = torch.zeros(len(features), num_classes)
        if len(known) > 1:
            found[:, known] = torch.from_numpy(model.predict_proba(features.numpy())).float()
        else:
            found[:, known] = 1.0  # there is nothing to tell apart
        return found

    return classify
