"""The whole job in one command: from unequal classes to a data set, and to the answer whether it helps."""

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stages import STAGES

__all__ = ["STAGES", "AugmentJob"]
