"""Training data: batches of the images of a source, in an order that a resumed run continues."""

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.loader import DiffusionDataLoader
from snowmelt.formats import DATASETS, load_digits_split

__all__ = ["DATASETS", "Augmentation", "DiffusionDataLoader", "load_digits_split"]
