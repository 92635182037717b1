"""The two arrays that flow between all modules."""

import numpy as np
from numpy.typing import NDArray

# Images (N, H, W, C) in [0, 1], latents (N, D), and weights.
Array = NDArray[np.float32]
# Stored images, 0 to 255.
UInt8Array = NDArray[np.uint8]
