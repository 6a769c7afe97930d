"""Images as tensors and as files.

Inside snowmelt an image is a float tensor (C, H, W) in [-1, 1]. C is 1 for gray, 3 for colour, and 4 for
colour with alpha. In files, -1 is 0 and 1 is 255 for every image: nothing is stretched, so gray stays gray.

Training, evaluation and editing see an image file alike: `read_image` opens it, `resize` gives it a size, and
`image_files` and `class_folders` say which files of a folder count.
"""

from snowmelt.images.folders import (
    OVERVIEW,
    ClassFolders,
    class_folders,
    image_files,
    natural_key,
    subfolders,
)
from snowmelt.images.pixels import CHANNELS, Shape, from_uint8, image_sides, resize, to_uint8
from snowmelt.images.reading import (
    BACKGROUND,
    IMAGE_SUFFIXES,
    check_colour,
    from_picture,
    is_image,
    read_image,
    read_mask,
)
from snowmelt.images.writing import decode_png, encode_png, film_strip, save_grid, save_png, tiled, to_picture

__all__ = [
    "BACKGROUND",
    "CHANNELS",
    "IMAGE_SUFFIXES",
    "OVERVIEW",
    "ClassFolders",
    "Shape",
    "check_colour",
    "class_folders",
    "decode_png",
    "encode_png",
    "film_strip",
    "from_picture",
    "from_uint8",
    "image_files",
    "image_sides",
    "is_image",
    "natural_key",
    "read_image",
    "read_mask",
    "resize",
    "save_grid",
    "save_png",
    "subfolders",
    "tiled",
    "to_picture",
    "to_uint8",
]
