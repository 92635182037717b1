"""TIFF files of 16 bits in color, which Pillow reduces to 8."""

import logging
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl.base.arrays import Array

# tifffile logs details of damaged files; users get one error instead.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

BITS_PER_SAMPLE, PHOTOMETRIC, EXTRA_SAMPLES, IMAGE_WIDTH = 258, 262, 338, 256
RGB, ASSOCIATED = 2, 1


def is_tiff16(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened is a TIFF in RGB or RGBA of 16 bits."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE)
    return image.format == "TIFF" and tags.get(PHOTOMETRIC) == RGB and bits in ((16,) * 3, (16,) * 4)


def decode(data: bytes) -> NDArray[np.uint16]:
    """Decode a TIFF in color: (H, W, 3), or (H, W, 4) with alpha."""
    from tifffile import TiffFile

    with TiffFile(BytesIO(data)) as file:
        page: Any = file.pages[0]
        values: NDArray[Any] = page.asarray()
        if page.planarconfig == 2:
            values = np.moveaxis(values, 0, 2)
        associated = tuple(page.extrasamples) == (ASSOCIATED,)
    if values.dtype != np.uint16 or values.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise ValueError("not an image of 16 bits")
    if associated:  # colors were multiplied by alpha
        alpha = np.maximum(values[..., 3:], 1).astype(np.float32)
        values[..., :3] = np.rint((values[..., :3] * (65535 / alpha)).clip(0, 65535))
    return values


def encode(pixels: Array, options: dict[str, Any]) -> bytes:
    """Encode an image, (H, W, C) in [0, 1]; `options` are Pillow's.

    Pillow writes the values as an image of bytes, twice as wide, whose header is then corrected.
    """
    from tifffile import TiffFile

    if pixels.shape[2] == 2:  # Pillow does not read gray with alpha at 16 bits
        pixels = pixels[..., [0, 0, 0, 1]]
    values = np.rint(pixels.clip(0, 1) * 65535).astype("<u2")
    height, width, channels = values.shape
    buffer = BytesIO()
    Image.frombytes({1: "L", 3: "RGB", 4: "RGBA"}[channels], (2 * width, height), values.tobytes()).save(
        buffer, "TIFF", **options
    )
    for tag, value in ((IMAGE_WIDTH, width), (BITS_PER_SAMPLE, (16,) * channels)):
        buffer.seek(0)
        with TiffFile(buffer) as file:
            file.pages.first.tags[tag].overwrite(value)
    return buffer.getvalue()
