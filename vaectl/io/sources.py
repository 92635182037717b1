"""What a verb reads: files, folders and stdin, told apart by their first bytes, as batches."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vaectl.errors import Remark, VaectlError
from vaectl.io import arrays, files, pictures
from vaectl.io.files import Reader

Array = NDArray[np.float32]
Item = tuple[str, Array]

BATCH_BYTES = 16 << 20
LARGEST_BATCH = 256
ARRAYS = ("NPY", "NPZ")


@dataclass(frozen=True)
class Batch:
    """Pictures (N, H, W, C) or latents (N, D), and the name of each."""

    names: Sequence[str]
    arrays: Array

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, the arrays passed through `function`."""
        return Batch(self.names, function(self.arrays))


def read_pictures(inputs: Sequence[str], shape: tuple[int, ...], *, invert: bool = False) -> Iterator[Batch]:
    """Batches of pictures of `shape`, (H, W, C), from files, folders, arrays or stdin; `invert` turns black to white.

    Raises:
        VaectlError: an input that is missing, damaged, empty or no picture.
        UsageError: no input at all.
    """
    found = batched(picture_items(inputs, shape), "pictures")
    return (batch.map(pictures.inverted) for batch in found) if invert else found


def read_latents(inputs: Sequence[str], width: int) -> Iterator[Batch]:
    """Batches of latents, (N, width), from NPY files or stdin.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or no array.
        UsageError: no input at all.
    """
    return batched(latent_items(inputs, width), "latents")


def read_points(inputs: Sequence[str], encode: Callable[[Image], Array], width: int | None = None) -> Iterator[Batch]:
    """Batches of latents, (N, width), from NPY files or stdin, or from pictures by `encode`; the first settles an open `width`.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or neither a picture nor an array.
        UsageError: no input at all.
    """
    return batched(latent_items(inputs, width, encode), "pictures or latents")


def batched(items: Iterable[Item], what: str) -> Iterator[Batch]:
    """Items gathered into batches that stay small in memory."""
    items = iter(items)
    size = 0
    while first := list(islice(items, 1)):
        size = max(1, min(LARGEST_BATCH, BATCH_BYTES // first[0][1].nbytes))
        names, values = zip(*first, *islice(items, size - 1), strict=True)
        yield Batch(names, np.stack(values))
    if not size:
        raise VaectlError(f"no {what} came in: the input is empty")


def picture_items(inputs: Sequence[str], shape: tuple[int, ...]) -> Iterator[Item]:
    """Each picture by itself, with its name."""

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return pictures.stack_shape(found, shape, path)

    for part in parts(inputs, "a PICTURE, a folder or an NPY"):
        if part.kind in files.PICTURES:
            yield part.next_name(), pictures.fit(pictures.decode(picture_bytes(part), part.reader.name), shape)
        elif part.kind in ARRAYS:
            yield from array_items(part, stack_shape, pictures.pixels)
        else:
            raise VaectlError(f"{part}: a picture is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)")


def latent_items(inputs: Sequence[str], width: int | None, encode: Callable[[Image], Array] | None = None) -> Iterator[Item]:
    """Each latent vector by itself, with its name."""

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        nonlocal width
        if width is None and found:
            width = found[-1]
        if found[-1:] != (width,) or len(found) > 2:
            raise VaectlError(f"{path} is an array of {found}: latents are (N, {width}) here: encode with the same checkpoint")
        return (1, *found) if len(found) == 1 else found

    for part in parts(inputs, "an NPY of latents" if encode is None else "a PICTURE or an NPY of latents"):
        if part.kind in files.PICTURES and encode is not None:
            z = encode(pictures.decode(picture_bytes(part), part.reader.name))
            stack_shape(z.shape, part.reader.name)
            yield part.next_name(), z
        elif part.kind in files.PICTURES:
            raise VaectlError(f"{part}: latents (NPY) are expected: run vaectl encode on it first")
        elif part.kind in ARRAYS:
            yield from array_items(part, stack_shape, arrays.finite)
        else:
            raise VaectlError(f"{part}: latents (NPY) are expected, as vaectl encode writes them")


@dataclass(frozen=True)
class Part:
    """One picture or array about to be read: its bytes, its kind, and how its items are named."""

    reader: Reader
    kind: str
    name: str
    numbers: Iterator[int]

    def next_name(self) -> str:
        """The picture's own name, or a number on stdin."""
        return self.numbered() if self.reader.name == files.STDIN_NAME else self.name

    def numbered(self) -> str:
        """The name of an item that has none of its own: `z-00000`, `z-00001`, ... in `z.npy`."""
        return f"{os.path.splitext(self.name)[0]}-{next(self.numbers):05d}"

    def __str__(self) -> str:
        """What it is, as an error begins."""
        words = {"empty": "empty", "unknown": "neither a picture nor an array", "NPY": "an NPY array"}
        return f"{self.reader.name} is {words.get(self.kind, f'a {self.kind} file')}"


def picture_bytes(part: Part) -> bytes:
    """The bytes of one picture; on stdin several may follow one another."""
    if part.kind == "PNG" and part.reader.name == files.STDIN_NAME:
        return pictures.read_png(part.reader)
    data = part.reader.read(files.LARGEST_PICTURE)
    if part.reader.peek(1):
        raise VaectlError(f"{part.reader.name} is larger than {files.LARGEST_PICTURE} bytes: make it smaller")
    if part.reader.name == files.STDIN_NAME:
        end = pictures.end_of(data, part.kind)
        part.reader.put_back(data[end:])
        data = data[:end]
    return data


def array_items(
    part: Part,
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    checked: Callable[[NDArray[Any], str, int], Array],
) -> Iterator[Item]:
    """The rows of the array that comes next, once `stack_shape` has taken its shape and `checked` its values."""
    path = part.reader.name
    if part.kind == "NPZ":
        array = arrays.only_array(part.reader)
        blocks = iter([array.reshape(stack_shape(array.shape, path))])
    else:
        header = arrays.read_header(part.reader)
        blocks = arrays.read_blocks(part.reader, header, stack_shape(header.shape, path), LARGEST_BATCH)
    start = 0
    for block in blocks:
        yield from ((part.numbered(), item) for item in checked(block, path, start))
        start += len(block)


def parts(inputs: Sequence[str], wanted: str) -> Iterator[Part]:
    """Each picture or array to be read; a folder gives its pictures, a stream what stands in it one after another."""
    for path in inputs or [files.stdin_or_usage_error(wanted)]:
        if os.path.isdir(path):
            yield from folder_parts(path)
            continue
        numbers = count()
        with files.opened(path) as reader:
            name = files.STDIN_NAME if path == files.STDIN else os.path.basename(path)
            yield Part(reader, files.kind_of(reader), name, numbers)
            while reader.peek(1):
                yield Part(reader, files.kind_of(reader), name, numbers)


def folder_parts(folder: str) -> Iterator[Part]:
    """The pictures under a folder, sorted by path and named by their path within it; other files are passed over."""
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if os.path.isfile(os.path.join(parent, name))
    )
    passed_over = 0
    for path in paths:
        with files.opened(path) as reader:
            kind = files.kind_of(reader)
            if kind in files.PICTURES:
                yield Part(reader, kind, os.path.relpath(path, folder), count())
            else:
                passed_over += 1
    if passed_over == len(paths):
        raise VaectlError(f"{folder!r} holds no pictures: give another folder")
    if passed_over:
        warnings.warn(f"{folder!r}: {passed_over} of its files are no pictures and were passed over", Remark, stacklevel=2)
