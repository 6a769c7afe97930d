"""Generation: jobs of any number of images, which survive every stop."""

from snowmelt.generation.job import Job, auto_shard_size, grid_step
from snowmelt.generation.labels import balanced_labels, choose_images, counts_to_balance
from snowmelt.generation.report import forecast, inspect
from snowmelt.generation.team import ALONE, Team, join_team

__all__ = [
    "ALONE",
    "Job",
    "Team",
    "auto_shard_size",
    "balanced_labels",
    "choose_images",
    "counts_to_balance",
    "forecast",
    "grid_step",
    "inspect",
    "join_team",
]
