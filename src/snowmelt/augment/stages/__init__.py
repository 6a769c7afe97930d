"""The stages of a job, in their order."""

from __future__ import annotations

from snowmelt.augment.stage import Stage
from snowmelt.augment.stages.dataset import DATASET
from snowmelt.augment.stages.generate import GENERATE
from snowmelt.augment.stages.judge import JUDGE
from snowmelt.augment.stages.look import LOOK
from snowmelt.augment.stages.select import SELECT
from snowmelt.augment.stages.split import SPLIT
from snowmelt.augment.stages.train import TRAIN
from snowmelt.augment.stages.tune import TUNE

__all__ = ["STAGES"]

_ALL = (SPLIT, LOOK, TRAIN, TUNE, GENERATE, SELECT, JUDGE, DATASET)
STAGES: dict[str, Stage] = {each.name: each for each in _ALL}
