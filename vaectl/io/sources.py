"""What a verb reads: files, folders and stdin, told apart by their first bytes, as batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import arrays, codecs, files, parts, pictures
from vaectl.io.ahead import AHEAD, worked_ahead
from vaectl.io.parts import ARRAYS, Bad, Item

Array = NDArray[np.float32]
T = TypeVar("T")

BATCH_BYTES = 16 << 20
LARGEST_BATCH = 256


@dataclass(frozen=True)
class Batch:
    """Pictures (N, H, W, C) or latents (N, D), and the name of each; `depth` is the bits of a value that pictures came with."""

    names: Sequence[str]
    arrays: Array
    depth: int = 8

    def __len__(self) -> int:
        return len(self.names)

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, the arrays passed through `function`."""
        return replace(self, arrays=function(self.arrays))


def read_pictures(inputs: Sequence[str], frame: Frame, *, invert: bool = False, skip_bad: bool = False) -> Iterator[Batch]:
    """Batches of pictures brought to `frame`, from files, folders, arrays or stdin; `invert` turns black to white.

    With `skip_bad`, pictures that cannot be read are left out and told.

    Raises:
        VaectlError: an input that is missing, damaged, empty or no picture.
        UsageError: no input at all.
    """
    found = batched(picture_items(inputs, frame, Bad(skip_bad)), "pictures")
    return (batch.map(pictures.inverted) for batch in found) if invert else found


def read_photographs(inputs: Sequence[str], channels: int, *, invert: bool = False, skip_bad: bool = False) -> Iterator[Batch]:
    """Pictures of their own sizes, each a batch, (1, H, W, C) with its alpha as one channel more if it has any.

    Raises:
        VaectlError: as `read_pictures`.
        UsageError: no input at all.
    """

    def photograph(name: str, data: bytes, told: str) -> Batch:
        pixels, depth = codecs.photograph(data, told, channels)
        return Batch([name], pixels[np.newaxis], depth)

    def row(name: str, pixels: Array) -> Batch:
        return Batch([name], pixels[np.newaxis])

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        full = (*found, 1) if channels == 1 and found[-1:] != (1,) else found
        if len(full) not in (3, 4) or full[-1] != channels:
            raise VaectlError(f"{path} is an array of {found}: pictures are (N, height, width, {channels}) here")
        return (1, *full) if len(full) == 3 else full

    def inverted(pixels: Array) -> Array:
        return np.concatenate([pictures.inverted(pixels[..., :channels]), pixels[..., channels:]], axis=3)

    # Large ones are not gathered, and few are decoded ahead.
    found = not_empty(read_ahead(inputs, photograph, row, stack_shape, Bad(skip_bad), ahead=1), "pictures")
    return (batch.map(inverted) for batch in found) if invert else found


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
    items = not_empty(items, what)
    for first in items:
        size = max(1, min(LARGEST_BATCH, BATCH_BYTES // first[1].nbytes))
        names, values = zip(first, *islice(items, size - 1), strict=True)
        yield Batch(names, np.stack(values))


def not_empty(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, of which there must be some."""
    came = False
    for item in items:
        came = True
        yield item
    if not came:
        raise VaectlError(f"no {what} came in: the input is empty")


def picture_items(inputs: Sequence[str], frame: Frame, bad: Bad) -> Iterator[Item]:
    """Each picture by itself, with its name."""

    def fitted(name: str, data: bytes, told: str) -> Item:
        return name, pictures.fit(codecs.decode(data, told, frame), frame)

    def row(name: str, pixels: Array) -> Item:
        return name, pixels

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return pictures.stack_shape(found, frame.shape, path)

    return read_ahead(inputs, fitted, row, stack_shape, bad)


def read_ahead(
    inputs: Sequence[str],
    picture: Callable[..., T],
    row: Callable[[str, Array], T],
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    bad: Bad,
    ahead: int = AHEAD,
) -> Iterator[T]:
    """What `picture` makes, in threads, of each picture's name, bytes and name in errors; and `row` of each row of an array."""

    def works() -> Iterator[T | VaectlError | Callable[[], T | VaectlError]]:
        for part in parts.parts_of(inputs, "a PICTURE, a folder or an NPY", bad):
            if part.kind in files.PICTURES:
                yield parts.work_on(part, partial(picture, part.next_name(), told=part.reader.name))
            elif part.kind in ARRAYS:
                yield from (row(*item) for item in parts.array_items(part, stack_shape, pictures.pixels))
            else:
                bad.meet(VaectlError(f"{part}: a picture is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)"))
                part.reader.leave()

    return bad.left_out(worked_ahead(works(), ahead))


def latent_items(inputs: Sequence[str], width: int | None, encode: Callable[[Image], Array] | None = None) -> Iterator[Item]:
    """Each latent vector by itself, with its name."""

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        nonlocal width
        if width is None and found:
            width = found[-1]
        if width == 0:
            raise VaectlError(f"{path} is an array of {found}: latents have one dimension at least")
        if found[-1:] != (width,) or len(found) > 2:
            raise VaectlError(f"{path} is an array of {found}: latents are (N, {width}) here: encode with the same checkpoint")
        return (1, *found) if len(found) == 1 else found

    for part in parts.parts_of(inputs, "an NPY of latents" if encode is None else "a PICTURE or an NPY of latents", Bad()):
        if part.kind in files.PICTURES and encode is not None:
            z = encode(codecs.decode(parts.picture_bytes(part), part.reader.name))
            stack_shape(z.shape, part.reader.name)
            yield part.next_name(), z
        elif part.kind in files.PICTURES:
            raise VaectlError(f"{part}: latents (NPY) are expected: run vaectl encode on it first")
        elif part.kind in ARRAYS:
            yield from parts.array_items(part, stack_shape, arrays.finite)
        else:
            raise VaectlError(f"{part}: latents (NPY) are expected, as vaectl encode writes them")
