"""Data sets to learn from: the bundled MNIST, a data set by name, a folder, an NPZ or NPY file, or arrays in memory.

Each kind of data yields samples, one by one; `store` alone resizes and keeps them.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from vaectl.datasets.cache import DiskCache
from vaectl.datasets.catalogue import NAMES, SPLITS
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.errors import VaectlError
from vaectl.io import arrays, codecs, files, images
from vaectl.io.images import ResizeSpec
from vaectl.io.inputs import decode_task
from vaectl.io.prefetch import prefetch
from vaectl.io.sources import Folder, SkipPolicy, no_images
from vaectl.networks.layers import Shape
from vaectl.text import list_names
from vaectl.types import UInt8Array

# One array (N, H, W, C), or a sequence of (H, W, C) where sizes differ.
ImageStack = Sequence[UInt8Array] | UInt8Array
# An image (H, W, C), and whether it is held out for testing.
SplitImage = tuple[UInt8Array, bool]
# Whatever `load_dataset` takes: a name or a path, images (N, H, W[, C]), or train and test images.
Data = str | os.PathLike[str] | ArrayLike | tuple[ArrayLike, ArrayLike]
# Called with the number of images read so far, and of all if it is known.
OnRead = Callable[[int, int | None], None]

IN_MEMORY = "array"  # the name of data that are arrays
HELD_OUT_ONE_IN = 10  # one image in ten is held out, if the data have no test split
DEFAULT_LONG_SIDE = 64  # pixels, if images are larger or their sizes differ
SIDE_MULTIPLE = 4  # the shorter side is then rounded to a multiple of this


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


@dataclass(frozen=True)
class Dataset:
    """Training and test images, 0 to 255. `test` may be empty if there are too few images to hold any out."""

    name: str
    train: ImageStack
    test: ImageStack
    sha256: str

    @property
    def held_out(self) -> ImageStack:
        """The test images, or the training images if there are none."""
        return self.test if len(self.test) else self.train

    @property
    def held_out_split(self) -> str:
        """Which split `held_out` is."""
        return "test" if len(self.test) else "train"

    @property
    def image_shape(self) -> Shape:
        """The shape of the first image, (H, W, C); of all images if they are an array."""
        return self.train[0].shape

    def describe(self) -> dict[str, str | int]:
        """Its name, hash and sizes, for the checkpoint's card."""
        return {"name": self.name, "sha256": self.sha256, "train": len(self.train), "test": len(self.test)}


@dataclass(frozen=True)
class ImageStream:
    """The images of a data set, and how many there are if that is known; `shrink` large ones unless a size is given."""

    name: str
    images: Iterable[SplitImage]
    total: int | None = None
    shrink: bool = False


def load_dataset(data: Data, preprocessing: Preprocessing | None = None, on_read: OnRead = lambda done, total: None) -> Dataset:
    """Load a data set: a name ("mnist", "cifar10", ...), a folder, `FILE.npz` (x_train, x_test), `FILE.npy`, or arrays.

    Without a test split, about a tenth of the images is held out, chosen by content, so the choice stays when images are added.

    Raises:
        VaectlError: no such data, or no images in it.
    """
    preprocessing = preprocessing or Preprocessing()
    if isinstance(data, str | os.PathLike):
        return store(open_samples(os.fspath(data), preprocessing), preprocessing, on_read)
    return store(array_samples(data), preprocessing, on_read)


def open_samples(name: str, preprocessing: Preprocessing) -> ImageStream:
    """The samples of a data set by its name or path."""
    if name in NAMES and not os.path.lexists(name):
        splits = [DatasetImages(name, split) for split in SPLITS]
        samples = chain.from_iterable(zip(images.arrays(), repeat(images.split == "test")) for images in splits)
        return ImageStream(name, samples, sum(images.count() for images in splits), shrink=True)
    if name == files.STDIN:
        return ImageStream(name, file_samples(name))
    source = open_source(name)
    if isinstance(source, Folder):
        return ImageStream(name, folder_samples(source, preprocessing), source.count())
    if isinstance(source, DatasetImages):
        return ImageStream(name, split_by_content(source.arrays()), source.count(), True)
    if os.path.exists(name):
        return ImageStream(name, file_samples(name))
    if os.sep in name or "." in name:
        raise VaectlError(f"{name!r}: no such file or directory: check the name")
    raise VaectlError(f"there is no data set {name!r}: give a folder, a file, or one of {', '.join(NAMES)}")


def file_samples(path: str) -> Iterator[SplitImage]:
    """The samples in an NPZ or NPY file, which may be larger than memory."""
    with files.open_reader(path) as reader:
        format = files.sniff_format(reader)
        if format == "NPY":
            yield from split_by_content(npy_images(reader)[1])
        elif format == "NPZ":
            yield from archive_samples(arrays.Archive(reader))
        else:
            raise VaectlError(f"{path!r} is not a data set: give a name, a folder, or a .npz or .npy file of images")


def archive_samples(archive: arrays.Archive) -> Iterator[SplitImage]:
    """The samples in the arrays x_train and x_test of an NPZ file."""
    if "x_train" not in archive.names:
        found = f"only {list_names(archive.names)}" if archive.names else "nothing at all"
        raise VaectlError(f"{archive.name} holds no array 'x_train', {found}: name the training images x_train")
    shape, train = npy_images(archive.open("x_train"))
    if "x_test" not in archive.names:
        yield from split_by_content(train)
        return
    test_shape, test = npy_images(archive.open("x_test"))
    if test_shape != shape:
        raise VaectlError(f"{archive.name}: images of x_train are {shape}, of x_test {test_shape}: make them one size")
    yield from zip(train, repeat(False))
    yield from zip(test, repeat(True))


def npy_images(reader: files.PeekableReader) -> tuple[Shape, Iterator[UInt8Array]]:
    """The shape (H, W, C) of the images in an NPY file, and the images, read one block at a time.

    Another file may follow it, as in `cat a.npy b.npy`.
    """
    first = arrays.read_header(reader)
    shape = stack_shape(first.shape, reader.name)

    def read(header: arrays.Header) -> Iterator[UInt8Array]:
        start, full = 0, stack_shape(header.shape, reader.name)
        if full[1:] != shape[1:]:
            raise VaectlError(f"{reader.name} holds images of {shape[1:]} and of {full[1:]}: make them one size")
        for block in arrays.read_blocks(reader, header, full):
            yield from images.to_uint8(block, reader.name, start)
            start += len(block)

    def read_all() -> Iterator[UInt8Array]:
        yield from read(first)
        while reader.peek(1):
            if files.sniff_format(reader) != "NPY":
                raise VaectlError(f"{reader.name} has other data after its array: save it again")
            yield from read(arrays.read_header(reader))

    return shape[1:], read_all()


def array_samples(data: ArrayLike | tuple[ArrayLike, ArrayLike]) -> ImageStream:
    """The samples in an array of images, or in a tuple of train and test images."""
    if not isinstance(data, tuple):
        stack = as_stack(np.asarray(data))
        return ImageStream(IN_MEMORY, split_by_content(stack), len(stack))
    train, test = (as_stack(np.asarray(part)) for part in data)
    return ImageStream(IN_MEMORY, chain(zip(train, repeat(False)), zip(test, repeat(True))), len(train) + len(test))


def as_stack(array: NDArray[Any]) -> UInt8Array:
    """Images of any number type as (N, H, W, C), 0 to 255."""
    return images.to_uint8(array.reshape(stack_shape(array.shape, "data")), "data")


def stack_shape(shape: Shape, name: str) -> Shape:
    """(N, H, W, C) for an array of images, whose channel axis may be missing; a VaectlError for any other shape."""
    full = (*shape, 1) if len(shape) == 3 else shape
    if len(full) != 4 or full[3] not in (1, 3) or not prod(full):
        raise VaectlError(
            f"{name} is an array of shape {shape}: images are (N, height, width), or (N, height, width, 3) in color"
        )
    return full


def folder_samples(folder: Folder, preprocessing: Preprocessing) -> Iterator[SplitImage]:
    """The samples under a folder, decoded and resized ahead in threads."""
    policy = SkipPolicy(preprocessing.skip_bad)
    spec = folder_spec(folder, preprocessing, policy)

    def decode(name: str, label: str, data: bytes) -> SplitImage:
        pixels = codecs.decode_resized(data, label, spec, keep_size=preprocessing.keep_size)
        return images.to_uint8(pixels), is_held_out(data)  # by the file's bytes: the choice stays at any size

    return policy.filter(prefetch(decode_task(input, decode) for input in folder.inputs(policy)))


def folder_spec(folder: Folder, preprocessing: Preprocessing, policy: SkipPolicy) -> ResizeSpec:
    """How the images of a folder are resized: to their common size, and to gray if all are gray."""
    if preprocessing.size and preprocessing.channels:
        return preprocessing.resize_spec(preprocessing.size, preprocessing.channels)
    sizes: Counter[tuple[int, int]] = Counter()
    channels = 1
    for path in folder.files(policy):
        found = codecs.peek_size(os.path.join(folder.path, path))
        if found:
            sizes[found[:2]] += 1
            channels = max(channels, found[2])
    if not sizes:
        raise no_images(folder.path)
    return preprocessing.resize_spec(common_size(sizes), channels)


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


def split_by_content(stack: Iterable[UInt8Array]) -> Iterator[SplitImage]:
    """Each image, and whether its content puts it into the held-out tenth."""
    return ((image, is_held_out(image.tobytes())) for image in stack)


def is_held_out(content: bytes) -> bool:
    """Whether content is held out, by its hash."""
    return hashlib.sha256(content).digest()[0] % HELD_OUT_ONE_IN == 0


def resize(image: Image.Image, spec: ResizeSpec) -> UInt8Array:
    """The image at the size and with the channels of the spec, 0 to 255."""
    return images.to_uint8(images.resize_image(image, spec))


def store(data: ImageStream, preprocessing: Preprocessing, on_read: OnRead) -> Dataset:
    """Keep samples on disk, all at the size of the first unless they keep their own."""
    caches = DiskCache(), DiskCache()
    spec: ResizeSpec | None = None
    for done, (image, held_out) in enumerate(data.images, 1):
        size = image.shape[:2]
        if spec is None or preprocessing.keep_size:
            shrink = data.shrink and not preprocessing.keep_size
            spec = preprocessing.resize_spec(common_size(Counter([size])) if shrink else size, image.shape[2])
        caches[held_out].append(image if image.shape == spec.image_shape else resize(images.from_uint8(image), spec))
        on_read(done, data.total)
    if not len(caches[False]):
        caches = caches[::-1]
    if not len(caches[False]):
        raise VaectlError(f"{data.name!r} contains no images that can be read: give other data")
    train, test = (cache.as_list() if preprocessing.keep_size else cache.as_array() for cache in caches)
    dataset = Dataset(data.name, train, test, hash_images(train, test))
    caches[False].advise_random_access()
    return dataset


def hash_images(*stacks: ImageStack) -> str:
    """One SHA-256 over the images and their shapes."""
    digest = hashlib.sha256()
    for stack in stacks:
        for block in [stack] if isinstance(stack, np.ndarray) else stack:
            digest.update(repr(block.shape).encode())
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
