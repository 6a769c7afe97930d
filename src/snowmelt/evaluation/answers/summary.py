"""The answers in a sentence each: how good, how new, how useful, how sure."""

from __future__ import annotations

from collections.abc import Mapping

from snowmelt.evaluation.answers.novelty import Novelty
from snowmelt.evaluation.answers.scores import Scores
from snowmelt.evaluation.answers.usefulness import Usefulness
from snowmelt.evaluation.ladder import Ladder
from snowmelt.evaluation.ladder.ladder import place
from snowmelt.text import counted, listed

__all__ = ["summary"]

FEW = 500  # images of a side; with fewer, small differences stay unseen


def summary(
    scores: Scores,
    ladder: Ladder | None = None,
    novelty: Mapping[str, Novelty] | None = None,
    usefulness: Usefulness | None = None,
) -> list[str]:
    """Return what is known about generated images, in a sentence each.

    >>> from snowmelt.evaluation import Estimate
    >>> found = summary(Scores({"c2st": Estimate(0.81, 0.79, 0.83, 0.01, 900, 900)}))
    >>> found[0].partition(";")[0]
    'How good: a classifier recognises 81 % (79 % to 83 %) of unseen images as generated or real'
    """
    return [
        f"{title}: {text}."
        for title, text in (
            ("How good", _good(scores, ladder)),
            ("How new", _new(novelty)),
            ("How useful", usefulness.answer().rstrip(".") if usefulness is not None else ""),
            ("How sure", _sure(scores, ladder)),
        )
        if text
    ]


def _good(scores: Scores, ladder: Ladder | None) -> str:
    parts = []
    if (told := scores.overall.get("c2st")) is not None:
        value, low, high = (f"{each:.0%}".replace("%", " %") for each in (told.value, told.low, told.high))
        parts.append(
            f"a classifier recognises {value} ({low} to {high}) of unseen images as generated or real; 50 % "
            "would mean that nobody can tell"
        )
    if ladder is not None and ladder.generated and "kid" in ladder.generated and "kid" in ladder.real:
        standing = place(ladder, "kid")
        parts.append(
            f"KID reads {ladder.generated['kid'].value:.3g} where other real images read "
            f"{ladder.real['kid'].value:.3g}" + (f", {standing}" if standing else "")
        )
    return "; ".join(parts)


def _new(novelty: Mapping[str, Novelty] | None) -> str:
    if not novelty:
        return ""
    space = "features" if "features" in novelty else next(iter(novelty))
    found = novelty[space]
    return (
        f"{found.copy_rate.value:.1%} of the images are as close to a training image as a copy "
        f"({found.held_out_rate.value:.1%} of held-out real images are), and "
        f"{found.duplicate_rate.value:.1%} are duplicates of each other"
    )


def _sure(scores: Scores, ladder: Ladder | None) -> str:
    counts = [n for each in scores.overall.values() for n in (each.n_generated, each.n_real) if n is not None]
    parts = []
    if counts and min(counts) < FEW:
        parts.append(
            f"the smaller side has {counted(min(counts), 'image')}, so small differences stay unseen"
        )
    if ladder is None:
        parts.append("there is no ladder of spoilt images to say which metrics can be trusted")
    elif blind := [metric for metric in ladder.real if ladder.blind(metric)]:
        parts.append(
            f"{listed(blind)} {'does' if len(blind) == 1 else 'do'} not see all spoilt images here: look at "
            "the ladder"
        )
    else:
        parts.append("every metric reads spoilt images as worse than real ones")
    return "; ".join(parts)
