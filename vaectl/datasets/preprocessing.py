"""How the images of a data set are resized and divided into a training and a test split."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import prefetch
from vaectl.base.shapes import Shape
from vaectl.images import codecs, formats, resize
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, remote
from vaectl.io.decoders import Decoder, Task, fit_pixels, folder_label
from vaectl.io.records import Sample
from vaectl.io.sources import Folder, SkipPolicy, no_images

HELD_OUT_ONE_IN = 10  # one image in ten is held out, if the data have no test split
DEFAULT_LONG_SIDE = 64  # pixels, if images are larger or their sizes differ
SIDE_MULTIPLE = 4  # the shorter side is then rounded to a multiple of this
N_REMOTE_HEADERS = 32  # images of a folder at a URL whose sizes tell the common one


@dataclass(frozen=True)
class Preprocessing:
    """How images are resized; None takes it from the data.

    `size` is height and width, `fit` as in `ResizeSpec`. `keep_size` leaves each image its own size. With `skip_bad`, files that
    cannot be read are listed and skipped.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    keep_size: bool = False
    skip_bad: bool = False

    def resize_spec(self, size: tuple[int, int], channels: int) -> ResizeSpec:
        """The spec for data of this size and these channels."""
        return ResizeSpec((*(self.size or size), self.channels or channels), self.fit)


@dataclass
class PreprocessingDecoder(Decoder):
    """Images of one spec, or of their own sizes, as uint8, each of a split: its own, else the one that its content puts it into.

    The first image determines the spec if it is None; a large one is shrunk with `shrink`. If images are `paired`, each holds the
    channels of a clean image, then those of its noisy partner. With `by_content`, images have no splits of their own.
    """

    preprocessing: Preprocessing
    spec: ResizeSpec | None = None
    shrink: bool = True
    paired: bool = False
    by_content: bool = False

    def spec_for(self, shape: Shape) -> ResizeSpec:
        """The spec for an image of this shape: that of the first image, unless images keep their own sizes."""
        if self.spec is None or self.preprocessing.keep_size:
            height, width, channels = shape
            size = common_size(Counter([(height, width)])) if self.shrink else (height, width)
            self.spec = self.preprocessing.resize_spec((height, width) if self.preprocessing.keep_size else size, channels)
        return self.spec

    def task(self, name: str, where: str, data: bytes) -> Task:
        if self.spec is None:
            shape = codecs.peek_size(BytesIO(data))
            if not shape:
                return VaectlError(f"{where} is damaged", "save it again")
            self.spec_for(shape)
        return partial(self.decode, name, where, data)

    def decode(self, name: str, where: str, data: bytes) -> Sample:
        assert self.spec
        pixels = codecs.decode_resized(data, where, self.spec, keep_size=self.preprocessing.keep_size)
        # By the file's bytes: the choice stays at any size.
        return Sample(name, resize.to_uint8(pixels), folder_label(name), split_by_content(data))

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        parts: list[NDArray[Any]] = np.split(pixels, 2, axis=2) if self.paired else [pixels]
        spec = self.spec_for(parts[0].shape)
        if self.by_content or split is None:
            split = split_by_content(parts[0].tobytes())
        fitted = [resize.to_uint8(fit_pixels(part, spec)) for part in parts]
        return Sample(name, np.concatenate(fitted, axis=2) if self.paired else fitted[0], label, split)


def split_by_content(content: bytes) -> str:
    """The split of an image: its content, by its hash, puts about a tenth into the test split."""
    return "test" if hashlib.sha256(content).digest()[0] % HELD_OUT_ONE_IN == 0 else "train"


def folder_spec(folder: Folder, preprocessing: Preprocessing, policy: SkipPolicy) -> ResizeSpec:
    """How the images of a folder are resized: to their common size, and to gray if all are gray."""
    if preprocessing.size and preprocessing.channels:
        return preprocessing.resize_spec(preprocessing.size, preprocessing.channels)
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    paths = folder.files(policy)
    if is_remote := remote.is_url(folder.path):
        paths = paths[:: max(1, len(paths) // N_REMOTE_HEADERS)]  # each takes a request
    tasks = (partial(peek_file, os.path.join(folder.path, path)) for path in paths)
    headers: Iterable[tuple[int, int, int] | None] = (
        prefetch(tasks, threads=remote.N_THREADS) if is_remote else (task() for task in tasks)
    )
    for found in headers:
        if found:
            sizes[found[:2]] += 1
            channels = max(channels, found[2])
    if not sizes:
        raise no_images(folder.path)
    return preprocessing.resize_spec(common_size(sizes), channels)


def peek_file(path: str) -> tuple[int, int, int] | None:
    """(height, width, channels) from the header of an image file or URL, or None if it has none."""
    if not remote.is_url(path):
        return codecs.peek_size(path)
    with files.open_reader(path) as reader:
        return codecs.peek_size(BytesIO(reader.read(formats.MAX_IMAGE_BYTES)))


def common_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The height and width for images of these sizes: their own if they share one of at most 64 pixels a side.

    Otherwise the longer side is 64 pixels, or their median if that is less, at their median aspect ratio.
    """
    if len(sizes) == 1 and max(next(iter(sizes))) <= DEFAULT_LONG_SIDE:
        return next(iter(sizes))
    aspect = median((width / height, count) for (height, width), count in sizes.items())
    longer = min(DEFAULT_LONG_SIDE, int(median((max(size), count) for size, count in sizes.items())))
    shorter = min(longer, max(SIDE_MULTIPLE, round(longer * min(aspect, 1 / aspect) / SIDE_MULTIPLE) * SIDE_MULTIPLE))
    return (shorter, longer) if aspect > 1 else (longer, shorter)


def median(values: Iterable[tuple[float, int]]) -> float:
    """The median of values with counts; of two in the middle, the larger."""
    numbers, counts = zip(*values, strict=True)
    return float(np.percentile(np.repeat(numbers, counts), 50, method="higher"))
