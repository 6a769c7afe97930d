"""Comparing ways to sample: a grid of methods, guidance scales and checkpoints on one set of seeds.

Each cell of the grid makes the same images. Their making is timed, and all cells are measured by the same
real images. A finished cell is kept under the hash of everything that decides it, so that a stopped
comparison goes on with the next cell.
"""

from snowmelt.evaluation.compare.cell import Cell, CellImages, Result
from snowmelt.evaluation.compare.comparison import Comparison
from snowmelt.evaluation.compare.drawing import draw_matrix, draw_quality
from snowmelt.evaluation.compare.pareto import pareto_front
from snowmelt.evaluation.compare.run import CommonImages, Judge, compare
from snowmelt.evaluation.compare.writing import write_comparison

__all__ = [
    "Cell",
    "CellImages",
    "CommonImages",
    "Comparison",
    "Judge",
    "Result",
    "compare",
    "draw_matrix",
    "draw_quality",
    "pareto_front",
    "write_comparison",
]
