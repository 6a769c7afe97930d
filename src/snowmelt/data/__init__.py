"""Training data: folders of images, the digits of scikit-learn, torchvision's data sets."""

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.digits import load_digits_split
from snowmelt.data.loader import DATASETS, DiffusionDataLoader

__all__ = ["DATASETS", "Augmentation", "DiffusionDataLoader", "load_digits_split"]
