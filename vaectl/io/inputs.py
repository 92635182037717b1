"""What commands read: files, folders, streams and data sets, told apart by their first bytes, as batches.

A source (`File`, `Folder`, or a data set by name) yields inputs; an input is one encoded image, one array, or one stored image.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import count, islice
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl.errors import VaectlError, warn
from vaectl.io import arrays, codecs, files, images, streams
from vaectl.io.files import READABLE_FORMATS, PeekableReader
from vaectl.io.images import ResizeSpec
from vaectl.io.prefetch import AHEAD, prefetch
from vaectl.types import Array

Item = tuple[str, Array]
T = TypeVar("T")

ARRAY_FORMATS = ("NPY", "NPZ")
BATCH_BYTES = 16 << 20
MAX_BATCH_SIZE = 256
N_NAMED = 3  # skipped files that a warning names


@dataclass(frozen=True)
class Batch:
    """Images (N, H, W, C) or latents (N, D), and their names; `bits` per value of the files they came from."""

    names: Sequence[str]
    arrays: Array
    bits: int = 8

    def __len__(self) -> int:
        return len(self.names)

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, with `function` applied to the arrays."""
        return replace(self, arrays=function(self.arrays))


@dataclass
class SkipPolicy:
    """What happens to images that cannot be read: the first one ends the work, or with `skip` they are listed and skipped.

    `skip` is None where the command has no `--skip-bad`.
    """

    skip: bool | None = None
    skipped: int = field(default=0, init=False)

    def handle(self, error: VaectlError) -> None:
        """Raise the error, or warn and continue."""
        if self.skip is None or (not self.skip and str(error) == error.what):
            raise error
        if not self.skip:
            raise VaectlError(error.what, "replace it, or skip such files with --skip-bad") from error
        self.skipped += 1
        warn(f"{error.what}: skipped")

    def filter(self, results: Iterable[T | VaectlError]) -> Iterator[T]:
        """The results without the errors among them."""
        for result in results:
            if isinstance(result, VaectlError):
                self.handle(result)
            else:
                yield result
        self.summarize()

    def summarize(self) -> None:
        """Warn of how many were skipped, if any."""
        if self.skipped:
            warn(f"skipped {self.skipped} image{'s' if self.skipped > 1 else ''} that could not be read")


@dataclass(frozen=True)
class Input:
    """One image or array about to be read: its reader, its format, and a name for what it holds."""

    reader: PeekableReader
    format: str
    name: str
    numbers: Iterator[int]

    def next_name(self) -> str:
        """The name of the next image: the file's, or a number in a stream of several."""
        return self.numbered_name() if self.reader.is_stream else self.name

    def numbered_name(self) -> str:
        """The name of the next row: `z-00000`, `z-00001`, ... in `z.npy`."""
        return f"{os.path.splitext(self.name)[0]}-{next(self.numbers):05d}"

    def describe(self) -> str:
        """What it is, as the beginning of an error."""
        descriptions = {
            "empty": "empty",
            "unknown": "neither an image nor an array",
            "NPY": "an NPY array",
            "table": "a CSV table, which vaectl writes but does not read",
        }
        return f"{self.reader.name} is {descriptions.get(self.format, f'a {self.format} file')}"


@dataclass(frozen=True)
class StoredImage:
    """One image in memory."""

    name: str
    image: Image.Image

    def describe(self) -> str:
        """What it is, as the beginning of an error."""
        return f"{self.name} is an image"


class Source(Protocol):
    """Where inputs come from."""

    def count(self) -> int | None:
        """About how many images or rows there are; None if only reading would tell."""

    def inputs(self, policy: SkipPolicy) -> Iterator[Input | StoredImage]:
        """The inputs in order, each to be read before the next is asked for."""


@dataclass(frozen=True)
class File:
    """A file, stdin ("-") or a pipe; a stream may hold several images or arrays one after another."""

    path: str

    def count(self) -> int | None:
        if not os.path.isfile(self.path):
            return None
        with files.open_reader(self.path) as reader:
            return next(iter(arrays.read_header(reader).shape), 1) if files.sniff_format(reader) == "NPY" else 1

    def inputs(self, policy: SkipPolicy) -> Iterator[Input]:
        numbers = count()
        name = files.STDIN_NAME if self.path == files.STDIN else os.path.basename(self.path)
        with files.open_reader(self.path) as reader:
            yield Input(reader, files.sniff_format(reader), name, numbers)
            while reader.peek(1):
                yield Input(reader, files.sniff_format(reader), name, numbers)


@dataclass(frozen=True)
class Folder:
    """All images under a folder, sorted by path; it is listed once."""

    path: str

    @cached_property
    def files(self) -> list[str]:
        """The regular files under it by their path within it, sorted."""
        found, folders = [], [""]
        while folders:
            inner = folders.pop()
            with files.translate_errors(repr(self.path)), os.scandir(os.path.join(self.path, inner)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(os.path.join(inner, entry.name))
                    elif is_file(entry):
                        found.append(os.path.join(inner, entry.name))
        return sorted(found)

    def count(self) -> int:
        return len(self.files)

    def inputs(self, policy: SkipPolicy) -> Iterator[Input]:
        """The images, named by their path within the folder; other files are skipped with a warning."""
        found, others = 0, []
        for path in self.files:
            try:
                with files.open_reader(os.path.join(self.path, path)) as reader:
                    format = files.sniff_format(reader)
                    if format in READABLE_FORMATS:
                        found += 1
                        yield Input(reader, format, path, count())
                    else:
                        others.append(path)
            except VaectlError as error:
                policy.handle(error)
        if not found:
            raise no_images(self.path)
        if others:
            named = ", ".join(map(repr, others[:N_NAMED])) + (", ..." if len(others) > N_NAMED else "")
            what = "1 file that is not an image" if len(others) == 1 else f"{len(others)} files that are not images"
            warn(f"{self.path!r}: ignored {what} ({named})")


@dataclass(frozen=True)
class ImageList:
    """Pillow images in memory."""

    images: Sequence[Image.Image]

    def count(self) -> int:
        return len(self.images)

    def inputs(self, policy: SkipPolicy) -> Iterator[StoredImage]:
        return (StoredImage(f"image-{index:05d}", codecs.flatten(image)) for index, image in enumerate(self.images))


def no_images(folder: str) -> VaectlError:
    """The error for a folder without images."""
    return VaectlError(f"{folder!r} contains no images: give another folder")


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a regular file or a link to one."""
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def count_inputs(sources: Sequence[Source]) -> int | None:
    """About how many images or rows the sources hold; None if only reading would tell."""
    counts = [source.count() for source in sources]
    return None if None in counts else sum(found for found in counts if found)


def read_images(
    sources: Sequence[Source], spec: ResizeSpec, *, invert: bool = False, skip_bad: bool | None = None
) -> Iterator[Batch]:
    """Read images, resized to the spec, in batches; `invert` swaps black and white.

    With `skip_bad`, images that cannot be read are listed and skipped; None is for callers without `--skip-bad`.

    Raises:
        VaectlError: an input that is missing, damaged, empty or not an image.
    """

    def decode(name: str, label: str, data: bytes) -> Item:
        return resize(name, codecs.decode_image(data, label, spec))

    def resize(name: str, image: Image.Image) -> Item:
        return name, images.to_pixels(images.resize_image(image, spec))

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return images.stack_shape(found, spec.image_shape, path)

    items = read_items(sources, decode, resize, lambda name, row: (name, row), stack_shape, SkipPolicy(skip_bad))
    batches = batched(items, "images")
    return (batch.map(images.invert) for batch in batches) if invert else batches


def read_photos(
    sources: Sequence[Source], channels: int, *, invert: bool = False, skip_bad: bool | None = None
) -> Iterator[Batch]:
    """Read images at their own sizes, one a batch, (1, H, W, C), with their alpha, if any, as one more channel.

    Raises:
        VaectlError: as `read_images`.
    """

    def decode(name: str, label: str, data: bytes) -> Batch:
        pixels, bits = codecs.decode_photo(data, label, channels)
        return Batch([name], pixels[np.newaxis], bits)

    def convert(name: str, image: Image.Image) -> Batch:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return Batch([name], images.to_pixels(pixels.reshape(1, *pixels.shape[:2], channels)))

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        full = (*found, 1) if channels == 1 and found[-1:] != (1,) else found
        if len(full) not in (3, 4) or full[-1] != channels:
            raise VaectlError(f"{path} is an array of shape {found}: images of shape (N, height, width, {channels}) are expected")
        return (1, *full) if len(full) == 3 else full

    def swap(pixels: Array) -> Array:
        return np.concatenate([images.invert(pixels[..., :channels]), pixels[..., channels:]], axis=3)

    # Photos are large: they are not gathered into batches, and few are decoded ahead.
    rows = read_items(
        sources, decode, convert, lambda name, row: Batch([name], row[np.newaxis]), stack_shape, SkipPolicy(skip_bad), ahead=1
    )
    batches = require_nonempty(rows, "images")
    return (batch.map(swap) for batch in batches) if invert else batches


def read_latents(sources: Sequence[Source], latent_dim: int) -> Iterator[Batch]:
    """Read latents, (N, latent_dim), in batches.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or not an array.
    """
    return batched(latent_items(sources, latent_dim), "latents")


def read_points(
    sources: Sequence[Source],
    encode: Callable[[Image.Image], Array],
    latent_dim: int | None = None,
    *,
    skip_bad: bool | None = None,
) -> Iterator[Batch]:
    """Read latents, (N, latent_dim), in batches, encoding images; if None, the first input determines `latent_dim`.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or neither an image nor an array.
    """
    return batched(latent_items(sources, latent_dim, encode, SkipPolicy(skip_bad)), "images or latents")


def batched(items: Iterable[Item], what: str) -> Iterator[Batch]:
    """Gather items into batches of bounded size."""
    items = require_nonempty(items, what)
    for first in items:
        size = max(1, min(MAX_BATCH_SIZE, BATCH_BYTES // first[1].nbytes))
        names, values = zip(first, *islice(items, size - 1), strict=True)
        yield Batch(names, np.stack(values))


def require_nonempty(items: Iterable[T], what: str) -> Iterator[T]:
    """The items; a VaectlError if there are none."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        raise VaectlError(f"the input is empty: it contains no {what}")


def read_items(
    sources: Sequence[Source],
    decode: Callable[[str, str, bytes], T],
    convert: Callable[[str, Image.Image], T],
    wrap: Callable[[str, Array], T],
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    policy: SkipPolicy,
    ahead: int = AHEAD,
) -> Iterator[T]:
    """Read every image of the sources, decoding ahead in threads.

    `decode` takes an image's name, its label in errors and its bytes; `convert` takes a name and an image in memory; `wrap` takes
    a name and a row of an array, whose shape `stack_shape` has checked.
    """

    def tasks() -> Iterator[T | VaectlError | Callable[[], T | VaectlError]]:
        for input in (input for source in sources for input in source.inputs(policy)):
            if isinstance(input, StoredImage):
                yield partial(convert, input.name, input.image)
            elif input.format in READABLE_FORMATS:
                yield decode_task(input, partial(decode, input.next_name(), input.reader.name))
            elif input.format in ARRAY_FORMATS:
                yield from (wrap(*item) for item in array_rows(input, stack_shape, images.to_pixels))
            else:
                policy.handle(VaectlError(f"{input.describe()}: an image is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)"))
                input.reader.skip_rest()

    return policy.filter(prefetch(tasks(), ahead))


def decode_task(input: Input, decode: Callable[[bytes], T]) -> VaectlError | Callable[[], T | VaectlError]:
    """Read an image's bytes now, and return the task that decodes them; an error on the way is the result."""
    try:
        data = read_image_bytes(input)
    except VaectlError as error:
        input.reader.skip_rest()
        return error

    def attempt() -> T | VaectlError:
        try:
            return decode(data)
        except VaectlError as error:
            return error

    return attempt


def read_image_bytes(input: Input) -> bytes:
    """The bytes of one image; in a stream, others may follow it."""
    reader = input.reader
    if input.format == "PNG" and reader.is_stream:
        return streams.read_png(reader)
    data = reader.read(files.MAX_IMAGE_BYTES)
    if reader.peek(1):
        raise VaectlError(f"{reader.name} is larger than {files.MAX_IMAGE_BYTES} bytes", "make it smaller")
    if reader.is_stream:
        end = streams.find_image_end(data, input.format)
        reader.unread(data[end:])
        data = data[:end]
    return data


def array_rows(
    input: Input,
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    check: Callable[[NDArray[Any], str, int], Array],
) -> Iterator[Item]:
    """The rows of an array, after `stack_shape` has checked its shape and `check` its values."""
    label = input.reader.name
    reader = arrays.Archive(input.reader).only() if input.format == "NPZ" else input.reader
    header = arrays.read_header(reader)
    start = 0
    for block in arrays.read_blocks(reader, header, stack_shape(header.shape, label)):
        yield from ((input.numbered_name(), row) for row in check(block, label, start))
        start += len(block)


def latent_items(
    sources: Sequence[Source],
    latent_dim: int | None,
    encode: Callable[[Image.Image], Array] | None = None,
    policy: SkipPolicy | None = None,
) -> Iterator[Item]:
    """Each latent with its name; images are encoded if `encode` is given."""

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        nonlocal latent_dim
        if latent_dim is None and found:
            latent_dim = found[-1]
        if latent_dim == 0:
            raise VaectlError(f"{path} is an array of shape {found}: latents have at least one dimension")
        if found[-1:] != (latent_dim,) or len(found) > 2:
            raise VaectlError(
                f"{path} is an array of shape {found}: latents of shape (N, {latent_dim}) are expected: "
                "encode with the same checkpoint"
            )
        return (1, *found) if len(found) == 1 else found

    policy = policy or SkipPolicy()
    for input in (input for source in sources for input in source.inputs(policy)):
        if isinstance(input, Input) and input.format in ARRAY_FORMATS:
            yield from array_rows(input, stack_shape, arrays.to_finite)
            continue
        if encode is None:
            is_image = isinstance(input, StoredImage) or input.format in READABLE_FORMATS
            advice = "run vaectl encode on it first" if is_image else "use what vaectl encode wrote"
            raise VaectlError(f"{input.describe()}: latents (NPY) are expected: {advice}")
        try:
            name, image = load_image(input)
        except VaectlError as error:
            policy.handle(error)
            continue
        z = encode(image)
        stack_shape(z.shape, name)
        yield name, z
    policy.summarize()


def load_image(input: Input | StoredImage) -> tuple[str, Image.Image]:
    """The name of an image, and the image.

    Raises:
        VaectlError: it is damaged or not an image; the rest of its stream is then skipped.
    """
    if isinstance(input, StoredImage):
        return input.name, input.image
    try:
        if input.format not in READABLE_FORMATS:
            raise VaectlError(f"{input.describe()}: an image or latents (NPY) are expected")
        return input.next_name(), codecs.decode_image(read_image_bytes(input), input.reader.name)
    except VaectlError:
        input.reader.skip_rest()
        raise
