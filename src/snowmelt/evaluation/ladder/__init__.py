"""A ladder beside every figure: what the same metrics read of real images, and of spoilt ones."""

from snowmelt.evaluation.ladder.ladder import Ladder, build_ladder
from snowmelt.evaluation.ladder.spoiling import SPOILINGS, Spoiling

__all__ = ["SPOILINGS", "Ladder", "Spoiling", "build_ladder"]
