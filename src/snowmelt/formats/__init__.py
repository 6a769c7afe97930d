"""Files of images, each format's writing and reading in one module.

`WRITERS` and `READERS` list the formats by name, and tests run over both. `open_images` looks into a folder
to find out which format it has.
"""

from snowmelt.formats.class_folders import ClassFolderWriter
from snowmelt.formats.classes import renumber_classes
from snowmelt.formats.npz import NpzWriter
from snowmelt.formats.opening import READERS, open_images
from snowmelt.formats.overview import GRID_NAME, LABELS_NAME, write_labels
from snowmelt.formats.parquet import ParquetWriter
from snowmelt.formats.png import PngWriter
from snowmelt.formats.source import ImageSource, TensorSource
from snowmelt.formats.webdataset import WebDatasetWriter
from snowmelt.formats.writer import Writer, class_numbers

__all__ = [
    "GRID_NAME",
    "LABELS_NAME",
    "READERS",
    "WRITERS",
    "ImageSource",
    "TensorSource",
    "Writer",
    "class_numbers",
    "open_images",
    "renumber_classes",
    "write_labels",
]

WRITERS: dict[str, type[Writer]] = {
    writer.name: writer
    for writer in (PngWriter, ClassFolderWriter, NpzWriter, WebDatasetWriter, ParquetWriter)
}
