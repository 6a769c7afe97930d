"""Choosing the strongest learner and recipe, on validation images alone.

In each round, every candidate learns from the training images and is asked about the validation images; its
score is the balanced accuracy, averaged over the rounds. Of two equal scores the simpler candidate wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snowmelt.evaluation.learning.figures import mean_estimate
from snowmelt.evaluation.learning.learners import Learner
from snowmelt.evaluation.learning.recipes import RECIPES, Recipe, unequal

__all__ = ["Candidate", "Round", "best_of", "rank", "rounds_of"]

ROUNDS = 2
PART = 5  # a fifth of the real images validates


@dataclass(frozen=True)
class Round:
    """Indices of the real images to learn from, and of those to validate with."""

    training: Tensor
    validation: Tensor


@dataclass(frozen=True, eq=False)
class Candidate:
    """A learner with a recipe, and how well it does on validation images.

    Attributes:
        learner: what learns.
        recipe: how it draws and changes its images.
        with_generated: whether generated images are among them.
        strength: the learner's setting that did best.
        score: balanced accuracy on validation images.
    """

    learner: Learner
    recipe: Recipe
    with_generated: bool
    strength: float
    score: float
    right: Tensor = field(repr=False)  # (1, N) of the validation images of all rounds


def rounds_of(labels: Tensor, validation: Tensor | None = None, *, rounds: int = ROUNDS) -> list[Round]:
    """Return which real images train and which validate in each round.

    Without validation images of their own, a fifth of each class's images validates, at least one if the
    class has two. Each round takes others, as far as there are any.

    Args:
        labels: (N,) of the real images, whose indices are 0 to N - 1.
        validation: indices of images that are there for that purpose.
        rounds: how many.

    Raises:
        ValueError: no class has two images.

    >>> [each.validation.tolist() for each in rounds_of(torch.tensor([0] * 5 + [1] * 2 + [2]))]
    [[4, 6], [0, 5]]
    """
    everything = torch.arange(len(labels))
    if validation is not None:
        return [Round(everything, validation)] * rounds
    random = torch.Generator().manual_seed(0)
    kept = torch.zeros(rounds, len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=random)]
        count = max(1, round(len(members) / PART)) if len(members) > 1 else 0
        for number in range(rounds):
            kept[number, members[torch.arange(number * count, (number + 1) * count) % len(members)]] = True
    if not bool(kept.any()):
        raise ValueError(
            "no class has two real images to train on, so that none can be kept for validation: give "
            "validation images"
        )
    return [Round(everything[~each], everything[each]) for each in kept]


def rank(
    learners: Sequence[Learner],
    labels: Tensor,
    rounds: Sequence[Round],
    generated: Tensor,
    done: Callable[[], object] = lambda: None,
) -> list[Candidate]:
    """Return all learners and recipes that were tried, each without and with generated images.

    Whether mirrored images help is decided once for each learner, on real images. Balanced sampling is tried
    where the classes have different numbers of images. A learner that is clearly worse than a former one on
    real images is not followed further; the former ones should be the fast ones.

    Args:
        learners: what may learn, all from the same images.
        labels: of these images, real and generated and validation.
        rounds: which real images train and validate.
        generated: indices of the generated images.
        done: is called after each candidate.
    """
    none = generated[:0]

    def tried(learner: Learner, recipe: Recipe, added: Tensor) -> Candidate:
        candidate = _tried(learner, recipe, labels, rounds, added)
        done()
        return candidate

    ranked: list[Candidate] = []
    for learner in learners:
        plain, augmented = (tried(learner, recipe, none) for recipe in (Recipe(), Recipe(augmented=True)))
        former, better = best_of(ranked) if ranked else None, best_of([plain, augmented])
        ranked += [plain, augmented]
        if former is not None and _clearly_worse(better, former, labels, rounds):
            continue
        mirrored = tried(learner, Recipe(augmented=True, mirrored=True), none)
        ranked.append(mirrored)
        flips = mirrored.score > augmented.score
        for added in (none, generated):
            for recipe in RECIPES:
                known = not len(added) and not recipe.balanced
                if known or (recipe.balanced and not unequal(labels[torch.cat([rounds[0].training, added])])):
                    continue
                changed = Recipe(recipe.balanced, recipe.augmented, recipe.augmented and flips)
                ranked.append(tried(learner, changed, added))
    return ranked


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest score; the first of equal ones."""
    return max(candidates, key=lambda each: each.score)


def _tried(
    learner: Learner, recipe: Recipe, labels: Tensor, rounds: Sequence[Round], added: Tensor
) -> Candidate:
    results = []
    for strength in learner.strengths:
        right, scores = [], []
        for seed, each in enumerate(rounds):
            classify = learner.fit(torch.cat([each.training, added]), recipe, seed, strength)
            found = classify(learner.seen[each.validation]).argmax(dim=1) == labels[each.validation]
            right.append(found.double())
            classes = _members(labels[each.validation])
            scores.append(sum(float(right[-1][members].mean()) for members in classes) / len(classes))
        score = round(sum(scores) / len(scores), 9)  # equal counts are equal scores
        results.append(Candidate(learner, recipe, len(added) > 0, strength, score, torch.cat(right)[None]))
    return best_of(results)


def _clearly_worse(one: Candidate, other: Candidate, labels: Tensor, rounds: Sequence[Round]) -> bool:
    members = _members(torch.cat([labels[each.validation] for each in rounds]))
    return mean_estimate(one.right - other.right, members, compared=True).high < 0


def _members(labels: Tensor) -> list[Tensor]:
    return [(labels == label).nonzero().flatten() for label in labels.unique()]
