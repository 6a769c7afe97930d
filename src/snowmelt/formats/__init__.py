"""Writers: finished images as files, one format a module.

A format is a class of its own, listed here by name; the tests of the laws that hold for all of them run over
this dictionary.
"""

from snowmelt.formats.class_folders import ClassFolderWriter
from snowmelt.formats.npz import NpzWriter
from snowmelt.formats.overview import GRID_NAME, LABELS_NAME, write_grid, write_labels
from snowmelt.formats.parquet import ParquetWriter
from snowmelt.formats.png import PngWriter
from snowmelt.formats.webdataset import WebDatasetWriter
from snowmelt.formats.writer import Sample, Writer

__all__ = ["GRID_NAME", "LABELS_NAME", "WRITERS", "Sample", "Writer", "write_grid", "write_labels"]

WRITERS: dict[str, type[Writer]] = {
    "png": PngWriter,
    "class_folders": ClassFolderWriter,
    "npz": NpzWriter,
    "webdataset": WebDatasetWriter,
    "parquet": ParquetWriter,
}
