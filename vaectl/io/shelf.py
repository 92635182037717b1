"""Pictures laid down one by one, on disk and not in memory, and seen as arrays afterwards."""

import os
import tempfile
from collections.abc import Sequence
from math import prod
from mmap import ACCESS_COPY, MADV_RANDOM, mmap

import numpy as np
from numpy.typing import NDArray

from vaectl.io import files

Bytes = NDArray[np.uint8]


class Shelf:
    """A file without a name, which goes with the process; what is read from it stays in memory only while there is room."""

    def __init__(self) -> None:
        with files.told("the cache"):
            self.stream = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 - open as long as the shelf
        self.shapes: list[tuple[int, ...]] = []
        self.mapping: mmap | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def add(self, picture: Bytes) -> None:
        """Lay down one picture, (H, W, C).

        Raises:
            VaectlError: the disk is full.
        """
        with files.told("the cache"):
            self.stream.write(np.ascontiguousarray(picture).data)
        self.shapes.append(picture.shape)

    def pictures(self) -> Sequence[Bytes]:
        """All pictures as they are."""
        whole = self.mapped()
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        return [whole[end - prod(shape) : end].reshape(shape) for end, shape in zip(ends, self.shapes, strict=True)]

    def stack(self) -> Bytes:
        """All pictures, which are of one shape, as one array (N, H, W, C)."""
        return self.mapped().reshape(len(self.shapes), *(self.shapes[0] if self.shapes else (0, 0, 0)))

    def mapped(self) -> Bytes:
        """Every byte in turn."""
        if not self.shapes:
            return np.empty(0, np.uint8)
        with files.told("the cache"):
            self.stream.flush()
            # Copied on write: nobody writes, but torch takes no array that it may not write to.
            self.mapping = mmap(self.stream.fileno(), 0, access=ACCESS_COPY)
        return np.frombuffer(self.mapping, np.uint8)

    def shuffled(self) -> None:
        """Tell the system that pictures are now read in any order, so that it does not read on from each of them in vain."""
        if self.mapping:
            self.mapping.madvise(MADV_RANDOM)


def cache_folder() -> str:
    """This user's folder for what can be made again: in memory, as /tmp often is, large data would not fit."""
    from platformdirs import user_cache_dir

    try:
        folder = user_cache_dir("vaectl", appauthor=False, ensure_exists=True)
    except OSError:
        return tempfile.gettempdir()
    return folder if os.access(folder, os.W_OK) else tempfile.gettempdir()
