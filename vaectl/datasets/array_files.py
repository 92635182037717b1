"""Images in arrays: those in memory, and those in NPY and NPZ files, which may be larger than memory."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.shapes import Shape
from vaectl.base.text import list_names
from vaectl.datasets.catalogue import SPLITS
from vaectl.images import resize
from vaectl.io import files, npy
from vaectl.io.decoders import Decoder, Task
from vaectl.io.records import Sample
from vaectl.io.sources import SkipPolicy, Source

IN_MEMORY = "array"  # the name of data that are arrays
IN_NPZ = "x_train_noisy"  # the name of noisy partners that are in the same file


@dataclass(frozen=True)
class ArrayImages(Source):
    """Images in memory, (N, H, W, C) or a list of (H, W, C), 0 to 255, and what is known of them."""

    images: Sequence[UInt8Array] | UInt8Array
    split: str | None = None
    names: Sequence[str] = ()
    labels: Sequence[str | None] = ()

    def describe(self) -> str:
        return "the array of images"

    def count(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int | None) -> "ArrayImages":
        return ArrayImages(self.images[start:stop], self.split, self.names[start:stop], self.labels[start:stop])

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        for name, image, label in zip(self.names or repeat(""), self.images, self.labels or repeat(None), strict=False):
            yield decoder.convert(name, image, label, self.split)


@dataclass(frozen=True)
class PassThroughDecoder(Decoder):
    """Images of `ArrayImages` as they are, so many in a batch."""

    batch_size: int | None

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        return Sample(name, pixels, label, split)


def find_arrays(data: ArrayLike | tuple[ArrayLike, ArrayLike]) -> list[ArrayImages]:
    """The images of an array, or of a tuple of train and test images."""
    if not isinstance(data, tuple):
        return [ArrayImages(as_stack(np.asarray(data)))]
    return [ArrayImages(as_stack(np.asarray(part)), split) for part, split in zip(data, SPLITS, strict=True)]


def pair_arrays(clean: Sequence[ArrayImages], noisy: Sequence[ArrayImages]) -> list[ArrayImages]:
    """Clean images with their noisy partners, (N, H, W, 2 C).

    Raises:
        VaectlError: they differ in number or size.
    """
    counts = [[part.count() for part in parts] for parts in (clean, noisy)]
    if counts[0] != counts[1]:
        raise VaectlError(f"{sum(counts[0])} clean images and {sum(counts[1])} noisy ones: give one for each")
    pairs = []
    for one, other in zip(clean, noisy, strict=True):
        found, expected = (part.images[0].shape for part in (other, one))
        if found != expected:
            raise VaectlError(f"data: clean images are {expected}, noisy ones {found}: resize them to the same size")
        pairs.append(ArrayImages(np.concatenate([one.images, other.images], axis=3), one.split))
    return pairs


def as_stack(array: NDArray[Any]) -> UInt8Array:
    """Images of any number type as (N, H, W, C), 0 to 255."""
    return resize.to_uint8(array.reshape(stack_shape(array.shape, "data")), "data")


def stack_shape(shape: Shape, name: str) -> Shape:
    """(N, H, W, C) for an array of images, whose channel axis may be missing; a VaectlError for any other shape."""
    full = (*shape, 1) if len(shape) == 3 else shape
    if len(full) != 4 or full[3] not in (1, 3) or not prod(full):
        raise VaectlError(
            f"{name} is an array of shape {shape}: images are (N, height, width), or (N, height, width, 3) in color"
        )
    return full


@dataclass(frozen=True)
class ArrayFile(Source):
    """The images in an open NPZ or NPY file, read once; `noisy` is the name of their partners in it, if there are any."""

    path: str
    images: Iterator[Sample]
    noisy: str | None = None

    def describe(self) -> str:
        return repr(self.path)

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        return (decoder.convert(name, image, label, split) for name, image, label, split, _ in self.images)


def open_array_file(path: str, pairs_in_npz: bool) -> ArrayFile:
    """Open an NPZ or NPY file, which may be larger than memory."""
    with ExitStack() as opened:
        reader = opened.enter_context(files.open_reader(path))
        format = files.sniff_format(reader)
        if format not in ("NPY", "NPZ"):
            raise VaectlError(f"{path!r} is not a data set: give a name, a folder, or a .npz or .npy file of images")
        noisy = None
        if format == "NPY":
            images: Iterator[Sample] = (Sample("", image) for image in npy_images(reader)[1])
        else:
            archive = npy.Archive(reader)
            noisy = IN_NPZ if pairs_in_npz and IN_NPZ in archive.names else None
            images = archive_samples(archive, noisy is not None)
        return ArrayFile(path, close_after(images, opened.pop_all()), noisy)


def close_after(samples: Iterable[Sample], opened: ExitStack) -> Iterator[Sample]:
    """The samples; then what they are read from is closed."""
    with opened:
        yield from samples


def join_pairs(clean: Iterable[Sample], noisy: Iterable[UInt8Array], name: str) -> Iterator[Sample]:
    """Each clean image and its noisy partner as one image, (H, W, 2 C)."""
    for sample, partner in zip(clean, noisy, strict=True):
        if sample.array.shape != partner.shape:
            raise VaectlError(
                f"{name}: clean images are {sample.array.shape}, noisy ones {partner.shape}: resize them to the same size"
            )
        yield sample._replace(array=np.concatenate([sample.array, partner], axis=2))


def archive_samples(archive: npy.Archive, paired: bool) -> Iterator[Sample]:
    """The samples in x_train and x_test of an NPZ file, if `paired` with their partners in x_train_noisy and x_test_noisy."""
    if "x_train" not in archive.names:
        found = f"only {list_names(archive.names)}" if archive.names else "nothing at all"
        raise VaectlError(f"{archive.name} holds no array 'x_train', {found}: name the training images x_train")
    shape, train = npy_images(archive.open("x_train"))
    has_test = "x_test" in archive.names
    labeled = with_labels(archive, train, "y_train")
    if not has_test:
        clean = {"x_train": (Sample("", image, label) for image, label in labeled)}
    else:
        test_shape, test = npy_images(archive.open("x_test"))
        if test_shape != shape:
            raise VaectlError(
                f"{archive.name}: images of x_train are {shape}, of x_test {test_shape}: resize them to the same size"
            )
        clean = {
            "x_train": (Sample("", image, label, "train") for image, label in labeled),
            "x_test": (Sample("", image, label, "test") for image, label in with_labels(archive, test, "y_test")),
        }
    for name, samples in clean.items():
        if not paired:
            yield from samples
            continue
        if f"{name}_noisy" not in archive.names:
            raise VaectlError(f"{archive.name} holds {name} but no {name}_noisy: add the noisy images, or leave {name} out")
        _, partners = npy_images(archive.open(f"{name}_noisy"))
        try:
            yield from join_pairs(samples, partners, archive.name)
        except ValueError as error:
            raise VaectlError(
                f"{archive.name}: {name} and {name}_noisy differ in length: give one noisy image for each"
            ) from error


def with_labels(archive: npy.Archive, stack: Iterable[UInt8Array], name: str) -> Iterator[tuple[UInt8Array, str | None]]:
    """Each image and its label in the array `name` of integers or text, (N,); None if there is no such array."""
    if name not in archive.names:
        yield from zip(stack, repeat(None))
        return
    reader = archive.open(name)
    header = npy.read_header(reader, numeric=False)
    if len(header.shape) != 1 or header.dtype.kind not in "iuU" or not header.dtype.itemsize:
        yield from zip(stack, repeat(None))
        return
    labels = (str(label) for block in npy.read_blocks(reader, header, header.shape) for label in block)
    try:
        yield from zip(stack, labels, strict=True)
    except ValueError as error:
        raise VaectlError(f"{reader.name} does not have one label per image: complete it, or leave it out") from error


def npy_images(reader: files.PeekableReader) -> tuple[Shape, Iterator[UInt8Array]]:
    """The shape (H, W, C) of the images in an NPY file, and the images, read one block at a time.

    Another file may follow it, as in `cat a.npy b.npy`.
    """
    first = npy.read_header(reader)
    shape = stack_shape(first.shape, reader.name)

    def read(header: npy.Header) -> Iterator[UInt8Array]:
        start, full = 0, stack_shape(header.shape, reader.name)
        if full[1:] != shape[1:]:
            raise VaectlError(f"{reader.name} holds images of {shape[1:]} and of {full[1:]}: resize them to the same size")
        for block in npy.read_blocks(reader, header, full):
            yield from resize.to_uint8(block, reader.name, start)
            start += len(block)

    def read_all() -> Iterator[UInt8Array]:
        yield from read(first)
        while reader.peek(1):
            if files.sniff_format(reader) != "NPY":
                raise VaectlError(f"{reader.name} has other data after its array: save it again")
            yield from read(npy.read_header(reader))

    return shape[1:], read_all()
