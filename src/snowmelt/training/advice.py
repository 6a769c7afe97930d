"""What the curves of a run say to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

__all__ = ["advice"]

RISEN = 0.02  # share by which a validation loss must stand above its lowest; noise moves it by less
FALLING = 0.01  # share by which the loss must fall over the last fifth
HIGH = 0.1  # share of its highest value above which the last learning rate is high
LEAST = 10  # rows that a trend is read from

Rows = Sequence[Mapping[str, float]]


def advice(rows: Rows, *, ended: bool = True, schedule: str | None = "constant") -> list[str]:
    """Return sentences that say what the curves show, and what follows.

    Args:
        rows: what the run has logged, in order: numbers by name, such as ``train_loss``.
        ended: whether the run is as long as asked; of one that stopped, nothing is said of its end.
        schedule: of the learning rate, by name; None where it cannot have one.

    >>> rows = [{"epoch": i, "train_loss": 1 / i, "learning_rate": 1e-3} for i in range(1, 21)]
    >>> for sentence in advice(rows):
    ...     print(sentence)
    The loss still fell by 22 % over the last fifth of the run: a longer one would learn more.
    The learning rate ends at 0.001, 100 % of its highest: training.scheduler.type=linear lets it fall to 0.
    """
    found = [_memorises(rows)]
    if ended:
        found = [found[0] or _still_learns(rows)]
        found += [_rate_is_high(rows)] if schedule not in (None, "linear") else []
    return [sentence for sentence in found if sentence]


def _memorises(rows: Rows) -> str | None:
    losses = _column(rows, "val_loss")
    if len(losses) < LEAST:
        return None
    smooth = [fmean(losses[max(0, end - len(losses) // 5) : end]) for end in range(1, len(losses) + 1)]
    best, last = min(smooth), smooth[-1]
    trained = _column(rows, "train_loss")
    risen = (last - best) / abs(best)  # a learned uncertainty makes losses negative
    if risen < RISEN or trained[-1] > trained[len(trained) // 2]:
        return None
    where = losses.index(min(losses)) / len(losses)
    return (
        f"The loss on validation images was lowest after {_percent(where)} of the run and is now "
        f"{_percent(risen)} higher, while the loss on training images fell: the network begins to "
        "learn its images by heart. best_model.pth is from before that. More images, augmentation or dropout "
        "help; a longer run does not."
    )


def _still_learns(rows: Rows) -> str | None:
    losses = _column(rows, "val_loss")
    losses = losses if len(losses) >= LEAST else _column(rows, "train_loss")
    if len(losses) < LEAST:
        return None
    fifth = len(losses) // 5
    before, last = fmean(losses[-2 * fifth : -fifth]), fmean(losses[-fifth:])
    fallen = (before - last) / abs(before)
    if fallen < FALLING:
        return None
    return (
        f"The loss still fell by {_percent(fallen)} over the last fifth of the run: a longer one "
        "would learn more."
    )


def _rate_is_high(rows: Rows) -> str | None:
    rates = _column(rows, "learning_rate")
    if not rates or rates[-1] <= HIGH * max(rates):
        return None
    return (
        f"The learning rate ends at {rates[-1]:g}, {_percent(rates[-1] / max(rates))} of its highest: "
        "training.scheduler.type=linear lets it fall to 0."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if name in row]
