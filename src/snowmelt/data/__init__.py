"""Training data: batches of the images of a source, in an order that a resumed run continues."""

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.loader import DiffusionDataLoader
from snowmelt.data.training_data import TrainingData
from snowmelt.formats import DATASETS, load_digits_split

__all__ = ["DATASETS", "Augmentation", "DiffusionDataLoader", "TrainingData", "load_digits_split"]
