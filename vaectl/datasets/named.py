"""Images of data sets by name, and what a command's arguments stand for: files, folders or data sets."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import resources
from itertools import chain, islice
from typing import Any

import numpy as np
from PIL.Image import Image

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.datasets.catalogue import BUNDLED, DOWNLOADABLE, NAMES, SPLITS
from vaectl.images.resize import is_gray
from vaectl.io import files, npy, remote
from vaectl.io.decoders import Decoder, Task
from vaectl.io.sources import File, Folder, Shard, SkipPolicy, Source
from vaectl.io.tars import TarImages, expand_braces, is_tar

LATENT_SUFFIXES = (".parquet", ".csv", ".npy")
REFERENCE = re.compile(rf"[^:]+(?::({'|'.join(SPLITS)}))?(?::(\d{{1,9}}))?")


@dataclass(frozen=True)
class DatasetImages(Source):
    """The images of a split of a data set, or the one at `index`, or those from `start` to `stop`."""

    name: str
    split: str = "test"
    index: int | None = None
    start: int = 0
    stop: int | None = None

    @cached_property
    def torchvision_split(self) -> Any:
        """The split as torchvision has it, downloaded if necessary."""
        from vaectl.datasets.downloads import load_splits

        return load_splits(self.name)[self.split]

    def describe(self) -> str:
        return f"{self.name}:{self.split}"

    def count(self) -> int:
        return len(range(self.total())[self.start : self.stop]) if self.index is None else 1

    def total(self) -> int:
        """The number of images in the split."""
        if self.name != BUNDLED:
            return len(self.torchvision_split)
        with open_bundled("x", self.split) as (header, _):
            return header.shape[0]

    def part(self, start: int, stop: int | None) -> "DatasetImages":
        return self if self.index is not None else DatasetImages(self.name, self.split, None, start, stop)

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        for index, (pixels, label) in enumerate(self.labeled(), self.index or self.start):
            yield decoder.convert(f"{self.name}-{self.split}-{index:05d}", pixels, label, self.split)

    def labeled(self) -> Iterator[tuple[UInt8Array, str | None]]:
        """The images, each (H, W, C), and their labels, if the data set has any.

        Raises:
            VaectlError: it cannot be downloaded, or has no image of this index.
        """
        index = self.index
        if index is not None and index >= (total := self.total()):
            raise VaectlError(f"{self.name}:{self.split} has {total} images, counted from 0: image {index} does not exist")
        if self.name != BUNDLED:
            images = self.torchvision_split
            for item in (images[number] for number in self.numbers()):
                yield to_array(item[0], transpose=DOWNLOADABLE[self.name].transposed), label_of(item[1], images)
            return
        with open_bundled("x", self.split) as (header, reader), open_bundled("y", self.split) as (label_header, label_reader):
            blocks = (
                npy.read_blocks(reader, header, (*header.shape, 1)),
                npy.read_blocks(label_reader, label_header, label_header.shape),
            )
            pixels, labels = (chain.from_iterable(values) for values in blocks)
            found = zip(pixels, map(str, labels), strict=True)
            yield from islice(found, self.numbers().start, self.numbers().stop)

    def numbers(self) -> range:
        """The numbers of the images in the split."""
        return range(self.total())[self.start : self.stop] if self.index is None else range(self.index, self.index + 1)


def label_of(target: Any, images: Any) -> str | None:
    """The label of a torchvision target, by name if it has one; None if the target is not a class."""
    if not isinstance(target, int):
        return None
    names = getattr(images, "classes", None) or []
    return str(names[target]) if 0 <= target < len(names) else str(target)


def to_array(image: Image, *, transpose: bool) -> UInt8Array:
    """A Pillow image as (H, W, C)."""
    pixels = np.asarray(image if is_gray(image) else image.convert("RGB"))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels.swapaxes(0, 1) if transpose else pixels


@contextmanager
def open_bundled(kind: str, split: str) -> Iterator[tuple[npy.Header, files.PeekableReader]]:
    """The header and the reader of the images ("x") or labels ("y") of a split of the bundled MNIST."""
    with resources.as_file(resources.files("vaectl") / "data" / "mnist.npz") as path, files.open_reader(str(path)) as reader:
        array = npy.Archive(reader).open(f"{kind}_{split}")
        yield npy.read_header(array), array


def open_sources(paths: Sequence[str], expected: str, shard: Shard | None = None) -> list[Source]:
    """The sources that arguments name, or a shard of them; without arguments, stdin. Errors say what is `expected`.

    Raises:
        UsageError: no arguments, and stdin is a terminal.
        VaectlError: it cannot be divided into shards.
    """
    sources = [source for path in paths or [files.stdin_or_usage_error(expected)] for source in find_sources(path)]
    return shard.take(sources) if shard else sources


def find_sources(path: str) -> list[Source]:
    """What a path stands for: each of several tar files is a source of its own."""
    return [open_source(name) for name in (expand_braces(path) if is_tar(path) else [path])]


def open_latents(paths: Sequence[str], expected: str) -> list[Source]:
    """What a command's arguments stand for, where they are latents: a folder stands for the tables and arrays in it.

    Raises:
        UsageError: no arguments, and stdin is a terminal.
        VaectlError: a folder without any.
    """
    sources: list[Source] = []
    for source in open_sources(paths, expected):
        if not isinstance(source, Folder):
            sources.append(source)
            continue
        names = [name for name in source.files(SkipPolicy()) if name.endswith(LATENT_SUFFIXES)]
        if not names:
            raise VaectlError(
                f"{source.path!r} contains no latents: give another folder, or files ({', '.join(LATENT_SUFFIXES)})"
            )
        sources += [File(os.path.join(source.path, name)) for name in names]
    return sources


def open_source(path: str) -> Source:
    """A folder, a file, or what `mnist`, `mnist:train`, `mnist:17` or `mnist:train:17` means; the split is "test" unless given.

    An existing file or folder wins over a data set of the same name.

    Raises:
        VaectlError: a data set's name, but neither a split nor an image; or a misspelt name.
    """
    if is_tar(path) and not os.path.isdir(path):
        return TarImages(path)
    if os.path.isdir(path) or (remote.is_url(path) and not os.path.splitext(path)[1]):
        return Folder(path)
    if os.path.lexists(path) or remote.is_url(path):
        return File(path)
    name = path.partition(":")[0]
    if name not in NAMES:
        for guess in get_close_matches(name, NAMES, 1):
            raise VaectlError(f"there is no file and no data set {path!r}: did you mean {path.replace(name, guess, 1)}?")
        return File(path)
    found = REFERENCE.fullmatch(path)
    if not found:
        raise VaectlError(f"there is no {path!r}: use {name}:train, {name}:test or the number of an image, as in {name}:17")
    return DatasetImages(name, found[1] or "test", int(found[2]) if found[2] else None)
