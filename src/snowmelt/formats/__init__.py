"""Files of images, each format's writing and reading in one module.

`WRITERS`, `READERS` and `DATASETS` list the formats and the data sets by name, and tests run over them.
`open_images` looks into a folder to find out which format it has.
"""

from snowmelt.formats.class_folders import ClassFolderWriter
from snowmelt.formats.classes import renumber_classes
from snowmelt.formats.digits import load_digits_split
from snowmelt.formats.division import SPLIT_NAME, Division, Shares
from snowmelt.formats.npz import NpzWriter
from snowmelt.formats.opening import DATASETS, READERS, open_images
from snowmelt.formats.overview import GRID_NAME, LABELS_NAME, write_labels
from snowmelt.formats.parquet import ParquetWriter
from snowmelt.formats.png import PngWriter
from snowmelt.formats.source import ImageSource, TensorSource
from snowmelt.formats.webdataset import WebDatasetWriter
from snowmelt.formats.writer import Writer, class_numbers, image_texts

__all__ = [
    "DATASETS",
    "GRID_NAME",
    "LABELS_NAME",
    "READERS",
    "SPLIT_NAME",
    "WRITERS",
    "Division",
    "ImageSource",
    "Shares",
    "TensorSource",
    "Writer",
    "class_numbers",
    "image_texts",
    "load_digits_split",
    "open_images",
    "renumber_classes",
    "write_labels",
]

WRITERS: dict[str, type[Writer]] = {
    writer.name: writer
    for writer in (PngWriter, ClassFolderWriter, NpzWriter, WebDatasetWriter, ParquetWriter)
}
