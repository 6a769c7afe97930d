"""Writers: finished images as files, one format a module.

A format is a class of its own, listed here by name; the tests of the laws that hold for all of them run over
this dictionary.
"""

from snowmelt.sampling.writers.class_folders import ClassFolderWriter
from snowmelt.sampling.writers.npz import NpzWriter
from snowmelt.sampling.writers.overview import GRID_NAME, LABELS_NAME, write_grid, write_labels
from snowmelt.sampling.writers.parquet import ParquetWriter
from snowmelt.sampling.writers.png import PngWriter
from snowmelt.sampling.writers.webdataset import WebDatasetWriter
from snowmelt.sampling.writers.writer import Sample, Writer

__all__ = ["GRID_NAME", "LABELS_NAME", "WRITERS", "Sample", "Writer", "write_grid", "write_labels"]

WRITERS: dict[str, type[Writer]] = {
    "png": PngWriter,
    "class_folders": ClassFolderWriter,
    "npz": NpzWriter,
    "webdataset": WebDatasetWriter,
    "parquet": ParquetWriter,
}
