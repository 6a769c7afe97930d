"""The largest sizes that are taken. Beyond them, a size is a slip or an attack: no machine holds it.

They are checked before anything is allocated. A size below them may still be too much for this machine.
"""

from __future__ import annotations

__all__ = ["BATCH", "CHANNELS", "CLASSES", "IMAGES", "LAYERS", "SEEN", "SIDE", "STAGES", "STEPS"]

SIDE = 8192  # of an image, in pixels
CHANNELS = 65_536
STAGES = 16  # of a network
LAYERS = 100  # of a stage
CLASSES = 100_000
STEPS = 100_000  # trained indices, time steps, rows of a plan
BATCH = 100_000  # images at a time
SEEN = 10**12  # images of a training run, each time it is seen
IMAGES = 10_000_000  # of a job; also epochs
