"""Images written to disk one by one, and mapped into memory as arrays, so that data may be larger than RAM."""

import os
import tempfile
from collections.abc import Sequence
from math import prod
from mmap import ACCESS_COPY, MADV_RANDOM, mmap
from typing import Any, BinaryIO

import numpy as np

from vaectl.base.arrays import UInt8Array
from vaectl.io import files

OPEN_FILES = "/proc/self/fd"  # where Linux has a path for each open file, with a name or without


class DiskCache:
    """An unnamed temporary file of images; the system caches what fits in memory.

    It is gone when the last process that has it open ends. Another process of this machine that unpickles it opens the same file.
    """

    mapping: mmap | None = None

    def __init__(self) -> None:
        with files.translate_errors("the cache"):
            self.stream: BinaryIO = tempfile.TemporaryFile(dir=cache_folder())  # noqa: SIM115 - open as long as the cache
        self.shapes: list[tuple[int, ...]] = []

    def __getstate__(self) -> dict[str, Any]:
        self.stream.flush()
        return {
            "path": os.path.join(OPEN_FILES.replace("self", str(os.getpid())), str(self.stream.fileno())),
            "shapes": self.shapes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.shapes = state["path"], state["shapes"]

    def __len__(self) -> int:
        return len(self.shapes)

    def append(self, image: UInt8Array) -> None:
        """Store one image, (H, W, C).

        Raises:
            VaectlError: the disk is full.
        """
        with files.translate_errors("the cache"):
            self.stream.write(np.ascontiguousarray(image).data)
        self.shapes.append(image.shape)

    def as_list(self) -> Sequence[UInt8Array]:
        """All images, each of its own shape."""
        data = self.map()
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        return [data[end - prod(shape) : end].reshape(shape) for end, shape in zip(ends, self.shapes, strict=True)]

    def as_array(self) -> UInt8Array:
        """All images, which have one shape, as (N, H, W, C)."""
        return self.map().reshape(len(self.shapes), *(self.shapes[0] if self.shapes else (0, 0, 0)))

    def map(self) -> UInt8Array:
        """All bytes in order."""
        if not self.shapes:
            return np.empty(0, np.uint8)
        with files.translate_errors("the cache"):
            if "stream" not in vars(self):
                self.stream = open(self.path, "rb")  # noqa: SIM115 - open as long as the cache
            self.stream.flush()
            # Copy-on-write: nothing writes to it, but torch accepts only writable arrays.
            self.mapping = mmap(self.stream.fileno(), 0, access=ACCESS_COPY)
        return np.frombuffer(self.mapping, np.uint8)

    def advise_random_access(self) -> None:
        """Tell the system that images are now read in random order, so that it does not read ahead."""
        if self.mapping:
            self.mapping.madvise(MADV_RANDOM)


def cache_folder() -> str:
    """This user's cache folder, else the temporary folder. /tmp is often in memory, where large data would not fit."""
    from platformdirs import user_cache_dir

    try:
        folder = user_cache_dir("vaectl", appauthor=False, ensure_exists=True)
    except (OSError, RuntimeError):  # it cannot be created, or the user has no home, as in a container
        return tempfile.gettempdir()
    return folder if os.access(folder, os.W_OK) else tempfile.gettempdir()
