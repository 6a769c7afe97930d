"""Comparing ways to sample: a grid of plans, guidance scales and checkpoints on one set of seeds.

Each cell of the grid makes the same images, is timed, and is measured by the same real images. A finished
cell is kept under the hash of everything that decides it, so a comparison goes on where it was stopped.
"""

from snowmelt.evaluation.compare.cell import Cell, Result, Sampled
from snowmelt.evaluation.compare.drawing import draw_matrix, draw_quality
from snowmelt.evaluation.compare.pareto import pareto_front
from snowmelt.evaluation.compare.run import Judge, WantedImages, compare
from snowmelt.evaluation.compare.writing import write_comparison

__all__ = [
    "Cell",
    "Judge",
    "Result",
    "Sampled",
    "WantedImages",
    "compare",
    "draw_matrix",
    "draw_quality",
    "pareto_front",
    "write_comparison",
]
