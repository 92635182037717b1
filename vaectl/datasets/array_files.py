"""Samples in arrays: those in memory, and those in NPY and NPZ files, which may be larger than memory."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import repeat
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import VaectlError
from vaectl.base.shapes import Shape
from vaectl.base.text import list_names
from vaectl.datasets.samples import ImageStream, Sample, is_held_out, join_pairs, split_by_content
from vaectl.images import resize
from vaectl.io import files, npy

IN_MEMORY = "array"  # the name of data that are arrays
IN_NPZ = "x_train_noisy"  # the name of noisy partners that are in the same file


def array_samples(data: ArrayLike | tuple[ArrayLike, ArrayLike]) -> ImageStream:
    """The samples in an array of images, or in a tuple of train and test images."""
    if not isinstance(data, tuple):
        stack = as_stack(np.asarray(data))
        return ImageStream(IN_MEMORY, split_by_content(stack), len(stack))
    train, test = (as_stack(np.asarray(part)) for part in data)
    samples = (Sample(image, held_out) for stack, held_out in ((train, False), (test, True)) for image in stack)
    return ImageStream(IN_MEMORY, samples, len(train) + len(test))


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


def file_stream(path: str, pairs_in_npz: bool) -> ImageStream:
    """The samples in an NPZ or NPY file, which may be larger than memory."""
    with ExitStack() as opened:
        reader = opened.enter_context(files.open_reader(path))
        format = files.sniff_format(reader)
        if format not in ("NPY", "NPZ"):
            raise VaectlError(f"{path!r} is not a data set: give a name, a folder, or a .npz or .npy file of images")
        noisy = None
        if format == "NPY":
            samples = split_by_content(npy_images(reader)[1])
        else:
            archive = npy.Archive(reader)
            noisy = IN_NPZ if pairs_in_npz and IN_NPZ in archive.names else None
            samples = archive_samples(archive, noisy is not None)
        return ImageStream(path, close_after(samples, opened.pop_all()), noisy=noisy)


def close_after(samples: Iterable[Sample], opened: ExitStack) -> Iterator[Sample]:
    """The samples; then what they are read from is closed."""
    with opened:
        yield from samples


def archive_samples(archive: npy.Archive, paired: bool) -> Iterator[Sample]:
    """The samples in x_train and x_test of an NPZ file, if `paired` with their partners in x_train_noisy and x_test_noisy."""
    if "x_train" not in archive.names:
        found = f"only {list_names(archive.names)}" if archive.names else "nothing at all"
        raise VaectlError(f"{archive.name} holds no array 'x_train', {found}: name the training images x_train")
    shape, train = npy_images(archive.open("x_train"))
    has_test = "x_test" in archive.names
    labeled = with_labels(archive, train, "y_train")
    if not has_test:
        clean = {"x_train": (Sample(image, is_held_out(image.tobytes()), label) for image, label in labeled)}
    else:
        test_shape, test = npy_images(archive.open("x_test"))
        if test_shape != shape:
            raise VaectlError(f"{archive.name}: images of x_train are {shape}, of x_test {test_shape}: make them one size")
        clean = {
            "x_train": (Sample(image, False, label) for image, label in labeled),
            "x_test": (Sample(image, True, label) for image, label in with_labels(archive, test, "y_test")),
        }
    for name, samples in clean.items():
        if not paired:
            yield from samples
            continue
        if f"{name}_noisy" not in archive.names:
            raise VaectlError(f"{archive.name} holds {name} but no {name}_noisy: add the noisy images, or leave {name} out")
        partners = (Sample(image, False) for image in npy_images(archive.open(f"{name}_noisy"))[1])
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
        raise VaectlError(f"{reader.name} does not have one label for each image: complete it, or leave it out") from error


def npy_images(reader: files.PeekableReader) -> tuple[Shape, Iterator[UInt8Array]]:
    """The shape (H, W, C) of the images in an NPY file, and the images, read one block at a time.

    Another file may follow it, as in `cat a.npy b.npy`.
    """
    first = npy.read_header(reader)
    shape = stack_shape(first.shape, reader.name)

    def read(header: npy.Header) -> Iterator[UInt8Array]:
        start, full = 0, stack_shape(header.shape, reader.name)
        if full[1:] != shape[1:]:
            raise VaectlError(f"{reader.name} holds images of {shape[1:]} and of {full[1:]}: make them one size")
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
