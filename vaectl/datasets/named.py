"""Images of data sets by name, and what a command's arguments stand for: files, folders or data sets."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np

from vaectl.datasets.catalogue import BUNDLED, DOWNLOADABLE, Reference, parse_reference
from vaectl.errors import VaectlError
from vaectl.io import arrays, files
from vaectl.io.images import from_uint8, is_gray
from vaectl.io.inputs import File, Folder, SkipPolicy, Source, StoredImage
from vaectl.types import UInt8Array


@dataclass(frozen=True)
class DatasetImages:
    """The images of a split of a data set, or one of them."""

    reference: Reference

    @cached_property
    def torchvision_split(self) -> Any:
        """The split as torchvision has it, downloaded if necessary."""
        from vaectl.datasets.torchvision import load_splits

        return load_splits(self.reference.name)[self.reference.split]

    def count(self) -> int:
        if self.reference.index is not None:
            return 1
        if self.reference.name == BUNDLED:
            with open_bundled(self.reference.split) as (header, _):
                return header.shape[0]
        return len(self.torchvision_split)

    def inputs(self, policy: SkipPolicy) -> Iterator[StoredImage]:
        """The images, named `mnist-test-00017`."""
        name, split, first = self.reference.name, self.reference.split, self.reference.index or 0
        return (
            StoredImage(f"{name}-{split}-{index:05d}", from_uint8(pixels)) for index, pixels in enumerate(self.arrays(), first)
        )

    def arrays(self) -> Iterator[UInt8Array]:
        """The images, each (H, W, C).

        Raises:
            VaectlError: it cannot be downloaded, or has no image of this index.
        """
        index = self.reference.index
        if index is None:
            yield from self.all_arrays()
            return
        count = -1
        for count, pixels in enumerate(self.all_arrays()):
            if count == index:
                yield pixels
                return
        raise VaectlError(
            f"{self.reference.name}:{self.reference.split} has {count + 1} images, counted from 0: there is no {index}"
        )

    def all_arrays(self) -> Iterator[UInt8Array]:
        """All images of the split."""
        if self.reference.name == BUNDLED:
            with open_bundled(self.reference.split) as (header, reader):
                for block in arrays.read_blocks(reader, header, (*header.shape, 1)):
                    yield from block
            return
        for image, *_ in self.torchvision_split:
            pixels = np.asarray(image if is_gray(image) else image.convert("RGB"))
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            yield pixels.swapaxes(0, 1) if DOWNLOADABLE[self.reference.name].transposed else pixels


@contextmanager
def open_bundled(split: str) -> Iterator[tuple[arrays.Header, files.PeekableReader]]:
    """The header and the reader of a split of the bundled MNIST."""
    with resources.as_file(resources.files("vaectl") / "data" / "mnist.npz") as path, files.open_reader(str(path)) as reader:
        array = arrays.Archive(reader).open(f"x_{split}")
        yield arrays.read_header(array), array


def open_sources(paths: Sequence[str], expected: str) -> list[Source]:
    """What a command's arguments stand for; without any, stdin, of which `expected` is what it should hold.

    An existing file or folder wins over a data set of the same name.

    Raises:
        UsageError: no arguments, and stdin is a terminal.
    """
    return [open_source(path) for path in paths or [files.stdin_or_usage_error(expected)]]


def open_source(path: str) -> Source:
    """A folder, a file, or a data set by name."""
    if os.path.isdir(path):
        return Folder(path)
    reference = None if os.path.lexists(path) else parse_reference(path)
    return DatasetImages(reference) if reference else File(path)
