"""The two arrays that flow between all modules, and the range of their numbers."""

import numpy as np
from numpy.typing import NDArray

# Images (N, H, W, C) in [0, 1], latents (N, D), and weights.
Array = NDArray[np.float32]
# Stored images, 0 to 255.
UInt8Array = NDArray[np.uint8]

# The smallest positive and the largest number, as Python has them.
MIN_FLOAT32, MAX_FLOAT32 = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
