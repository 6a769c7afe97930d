"""Choosing the strongest learner and recipe, on validation images alone.

In each round, every candidate learns from the training images and is asked about the validation images; its
score is the balanced accuracy, averaged over the rounds. Of two equal scores the simpler candidate wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        added: the name of the generated images among them; None without.
        strength: the learner's setting that did best.
        score: balanced accuracy on validation images.
    """

    learner: Learner
    recipe: Recipe
    added: str | None
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
    generated: Mapping[str, Tensor],
    done: Callable[[], object] = lambda: None,
) -> list[Candidate]:
    """Return all learners and recipes that were tried, each without and with each set of generated images.

    Whether mirrored images help is decided once for each learner, on real images. Balanced sampling is tried
    where the classes have different numbers of images. The first set of generated images is tried with all
    recipes, the others with the one that did best. A learner that is clearly worse than a former one on real
    images is not followed further; the former ones should be the fast ones.

    Args:
        learners: what may learn, all from the same images.
        labels: of these images, real and generated and validation.
        rounds: which real images train and validate.
        generated: indices of generated images, by the name of their set.
        done: is called after each candidate.
    """

    def tried(learner: Learner, recipe: Recipe, added: str | None = None) -> Candidate:
        candidate = _tried(learner, recipe, labels, rounds, added, rows[added])
        done()
        return candidate

    def recipes(added: str | None, flips: bool) -> list[Recipe]:
        learned = labels[torch.cat([rounds[0].training, rows[added]])]
        return [
            Recipe(each.balanced, each.augmented, each.augmented and flips)
            for each in RECIPES
            if not each.balanced or unequal(learned)
        ]

    rows: dict[str | None, Tensor] = {None: torch.empty(0, dtype=torch.long)}
    rows.update(generated)

    ranked: list[Candidate] = []
    for learner in learners:
        plain, augmented = (tried(learner, recipe) for recipe in (Recipe(), Recipe(augmented=True)))
        former, better = best_of(ranked) if ranked else None, best_of([plain, augmented])
        ranked += [plain, augmented]
        if former is not None and _clearly_worse(better, former, labels, rounds):
            continue
        mirrored = tried(learner, Recipe(augmented=True, mirrored=True))
        ranked.append(mirrored)
        flips = mirrored.score > augmented.score
        ranked += [tried(learner, recipe) for recipe in recipes(None, flips) if recipe.balanced]
        wanted: list[Recipe] | None = None
        for added in generated:
            found = [tried(learner, recipe, added) for recipe in wanted or recipes(added, flips)]
            wanted = wanted or [best_of(found).recipe]
            ranked += found
    return ranked


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest score; the first of equal ones."""
    return max(candidates, key=lambda each: each.score)


def _tried(
    learner: Learner,
    recipe: Recipe,
    labels: Tensor,
    rounds: Sequence[Round],
    added: str | None,
    indices: Tensor,
) -> Candidate:
    results = []
    for strength in learner.strengths:
        right, scores = [], []
        for seed, each in enumerate(rounds):
            classify = learner.fit(torch.cat([each.training, indices]), recipe, seed, strength)
            found = classify(learner.seen[each.validation]).argmax(dim=1) == labels[each.validation]
            right.append(found.double())
            classes = _members(labels[each.validation])
            scores.append(sum(float(right[-1][members].mean()) for members in classes) / len(classes))
        score = round(sum(scores) / len(scores), 9)  # equal counts are equal scores
        results.append(Candidate(learner, recipe, added, strength, score, torch.cat(right)[None]))
    return best_of(results)


def _clearly_worse(one: Candidate, other: Candidate, labels: Tensor, rounds: Sequence[Round]) -> bool:
    members = _members(torch.cat([labels[each.validation] for each in rounds]))
    return mean_estimate(one.right - other.right, members, compared=True).high < 0


def _members(labels: Tensor) -> list[Tensor]:
    return [(labels == label).nonzero().flatten() for label in labels.unique()]
