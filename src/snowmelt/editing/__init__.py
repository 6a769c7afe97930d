"""Work with single images: interpolate, vary, edit and invert them, and film how they are made.

Every edit is a noise source, a wrapper around the denoiser, or a plan. So it works with any model that
`DiffusionSampler` takes, and with any solver.
"""

from snowmelt.editing.film import choose_frames, save_animation, save_film_strip
from snowmelt.editing.image_to_image import image_to_image
from snowmelt.editing.inpainting import inpaint
from snowmelt.editing.interpolation import interpolate
from snowmelt.editing.inversion import Inversion, invert, swap_class
from snowmelt.editing.variation import variations

__all__ = [
    "Inversion",
    "choose_frames",
    "image_to_image",
    "inpaint",
    "interpolate",
    "invert",
    "save_animation",
    "save_film_strip",
    "swap_class",
    "variations",
]
