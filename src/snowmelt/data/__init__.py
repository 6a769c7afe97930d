"""Training data: folders of images, the digits of scikit-learn, torchvision's data sets."""

from snowmelt.data.digits import load_digits_split
from snowmelt.data.loader import DATASETS, DiffusionDataLoader

__all__ = ["DATASETS", "DiffusionDataLoader", "load_digits_split"]
