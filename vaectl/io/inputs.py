"""What commands read: the images or latents of sources, in batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from math import nan
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaectl.base.arrays import MAX_FLOAT32, Array, to_finite
from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import AHEAD, prefetch
from vaectl.images import codecs, resize
from vaectl.images.formats import HEIF_BRANDS, READABLE_FORMATS
from vaectl.images.metadata import Encoding
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, npy, streams, tables
from vaectl.io.sources import Input, SkipPolicy, Source, StoredImage, folder_label

T = TypeVar("T")

ARRAY_FORMATS = ("NPY", "NPZ")
MAX_QUOTED = 50  # characters of a field
BATCH_BYTES = 16 << 20
MAX_BATCH_SIZE = 256


class Item(NamedTuple):
    """An image (H, W, C) or a latent (D,), its name, and its label if it has one."""

    name: str
    array: Array
    label: str | None = None


@dataclass(frozen=True)
class Batch:
    """Images (N, H, W, C) or latents (N, D), their names, and their labels if known; and the encoding of a photo's file."""

    names: Sequence[str]
    arrays: Array
    encoding: Encoding = field(default_factory=Encoding)
    labels: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.names)

    def map(self, function: Callable[[Array], Array]) -> "Batch":
        """The same names, with `function` applied to the arrays."""
        return replace(self, arrays=function(self.arrays))

    def select(self, part: slice) -> "Batch":
        """Some of them."""
        return replace(self, names=self.names[part], arrays=self.arrays[part], labels=self.labels[part])


def read_images(
    sources: Sequence[Source], spec: ResizeSpec, *, invert: bool = False, skip_bad: bool | None = None, every: int = 1
) -> Iterator[Batch]:
    """Read images, resized to the spec, in batches; `invert` swaps black and white.

    With `skip_bad`, images that cannot be read are listed and skipped; None is for callers without `--skip-bad`. Of each
    `every` images in a row, the first is read.

    Raises:
        VaectlError: an input that is missing, damaged, empty or not an image.
    """

    def decode(name: str, label: str, data: bytes) -> Item:
        return Item(name, resize.to_pixels(codecs.decode_resized(data, label, spec)), folder_label(name))

    def convert(stored: StoredImage) -> Item:
        return Item(stored.name, resize.to_pixels(resize.resize_image(stored.image, spec)), stored.label)

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return resize.stack_shape(found, spec.image_shape, path)

    items = read_items(sources, decode, convert, Item, stack_shape, SkipPolicy(skip_bad), every=every)
    batches = batched(require_nonempty(items, sources, "images"))
    return (batch.map(resize.invert) for batch in batches) if invert else batches


def read_photos(
    sources: Sequence[Source], channels: int, *, invert: bool = False, skip_bad: bool | None = None
) -> Iterator[Batch]:
    """Read images at their own sizes, one a batch, (1, H, W, C), with their alpha, if any, as one more channel.

    Raises:
        VaectlError: as `read_images`.
    """

    def decode(name: str, label: str, data: bytes) -> Batch:
        pixels, encoding = codecs.decode_photo(data, label, channels)
        return Batch([name], pixels[np.newaxis], encoding)

    def convert(stored: StoredImage) -> Batch:
        pixels = np.asarray(stored.image.convert("L" if channels == 1 else "RGB"))
        return Batch([stored.name], resize.to_pixels(pixels.reshape(1, *pixels.shape[:2], channels)))

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        return resize.photo_stack_shape(found, channels, path)

    def wrap(name: str, row: Array) -> Batch:
        return Batch([name], resize.convert_channels(row, channels)[np.newaxis], Encoding(gray=row.shape[2] == 1))

    def swap(pixels: Array) -> Array:
        return np.concatenate([resize.invert(pixels[..., :channels]), pixels[..., channels:]], axis=3)

    # Photos are large: they are not gathered into batches, and few are decoded ahead.
    rows = read_items(sources, decode, convert, wrap, stack_shape, SkipPolicy(skip_bad), ahead=1)
    batches = require_nonempty(rows, sources, "images")
    return (batch.map(swap) for batch in batches) if invert else batches


def read_latents(sources: Sequence[Source], latent_dim: int) -> Iterator[Batch]:
    """Read latents, (N, latent_dim), in batches.

    Raises:
        VaectlError: an input that is missing, damaged, empty, of another width, or not an array.
    """
    return batched(require_nonempty(latent_items(sources, latent_dim), sources, "latents"))


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
    items = latent_items(sources, latent_dim, encode, SkipPolicy(skip_bad))
    return batched(require_nonempty(items, sources, "images or latents"))


def batched(items: Iterator[Item]) -> Iterator[Batch]:
    """Gather items into batches of bounded size."""
    for first in items:
        size = max(1, min(MAX_BATCH_SIZE, BATCH_BYTES // first.array.nbytes))
        names, values, labels = zip(first, *islice(items, size - 1), strict=True)
        yield Batch(names, np.stack(values), labels=labels)


def require_nonempty(items: Iterable[T], sources: Sequence[Source], what: str) -> Iterator[T]:
    """The items of sources; a VaectlError if there are none."""
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        others = ", like the others," if len(sources) > 1 else ""
        raise VaectlError(f"{sources[0].describe()}{others} is empty: it contains no {what}")


def read_items(
    sources: Sequence[Source],
    decode: Callable[[str, str, bytes], T],
    convert: Callable[[StoredImage], T],
    wrap: Callable[[str, Array], T],
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    policy: SkipPolicy,
    ahead: int = AHEAD,
    every: int = 1,
) -> Iterator[T]:
    """Read the images of the sources, or one of each `every`, decoding ahead in threads.

    `decode` takes an image's name, its label in errors and its bytes; `convert` takes an image in memory; `wrap` takes
    a name and a row of an array, whose shape `stack_shape` has checked.
    """

    def tasks() -> Iterator[T | VaectlError | Callable[[], T | VaectlError]]:
        for input in (input for source in sources for input in source.inputs(policy)):
            if isinstance(input, StoredImage):
                yield partial(convert, input)
            elif input.format in ARRAY_FORMATS:
                yield from (wrap(item.name, item.array) for item in array_rows(input, stack_shape, resize.to_pixels))
            else:
                yield decode_task(input, decode)
                if input.damaged and not policy.skip:  # do not search an endless stream for more
                    return

    return policy.filter(prefetch(islice(tasks(), 0, None, every), ahead))


def decode_task(input: Input, decode: Callable[[str, str, bytes], T]) -> VaectlError | Callable[[], T | VaectlError]:
    """Read an image's bytes now, and return the task that decodes them; an error on the way is the result."""
    try:
        name, data = read_image(input)
    except VaectlError as error:
        return error

    def attempt() -> T | VaectlError:
        try:
            return decode(name, input.reader.name, data)
        except VaectlError as error:
            return error

    return attempt


def read_image(input: Input) -> tuple[str, bytes]:
    """The name and the bytes of an image.

    Raises:
        VaectlError: it is damaged or not an image.
    """
    try:
        if input.format in HEIF_BRANDS.values():
            raise VaectlError(input.describe(), "convert it to JPEG or PNG")
        if input.format not in READABLE_FORMATS:
            raise VaectlError(f"{input.describe()}: an image is expected (PNG, JPEG, WebP, GIF, BMP, TIFF or NPY)")
        return input.next_name(), streams.read_image(input.reader, input.format)
    except VaectlError:
        input.damaged = True
        raise


def array_rows(
    input: Input,
    stack_shape: Callable[[tuple[int, ...], str], tuple[int, ...]],
    check: Callable[[NDArray[Any], str, int], Array],
) -> Iterator[Item]:
    """The rows of an array, after `stack_shape` has checked its shape and `check` its values."""
    label = input.reader.name
    reader = npy.Archive(input.reader).only() if input.format == "NPZ" else input.reader
    header = npy.read_header(reader)
    start = 0
    for block in npy.read_blocks(reader, header, stack_shape(header.shape, label)):
        first, last = max(input.rows.start, start), min(start + len(block), input.rows.stop or start + len(block))
        if first < last:
            wanted = check(block[first - start : last - start], label, first)
            yield from (Item(input.numbered_name(), row) for row in wanted)
        start += len(block)
        if input.rows.stop is not None and start >= input.rows.stop:
            return
    if input.format == "NPZ" and reader.peek(1):
        raise VaectlError(f"{reader.name} has other data after its array: save it again")


def table_rows(input: Input, check_dim: Callable[[int, str], None]) -> Iterator[Item]:
    """The latents of a CSV table with their names and labels, after `check_dim` has checked their dimension.

    Another header begins another table, as in what `cat` makes of two.
    """
    columns: tables.Columns | None = None
    for line, fields in tables.read_records(input.reader):
        where = f"{input.reader.name} line {line}"
        if found := tables.find_columns(fields):
            columns = found
            check_dim(len(columns.z), f"{where} has latents of shape (N, {len(columns.z)})")
        elif not columns:
            raise VaectlError(f"{where}: the header name, label (if known), z0, z1, ... is expected: see vaectl encode")
        elif len(fields) != columns.width:
            raise VaectlError(f"{where} has {len(fields)} fields, its header has {columns.width}: correct it")
        else:
            name, label = ("" if index is None else fields[index] for index in (columns.name, columns.label))
            z = parse_latent([fields[index] for index in columns.z], where)
            yield Item(name or input.numbered_name(), z, label or None)


def parquet_rows(input: Input, check_dim: Callable[[int, str], None]) -> Iterator[Item]:
    """The latents of a Parquet table with their names and labels, after `check_dim` has checked their dimension."""
    from vaectl.io import parquet

    for name, label, z in parquet.read_rows(input.reader):
        check_dim(z.size if z.ndim == 1 else 0, f"{input.reader.name} has latents of shape (N, {z.size})")
        yield Item(name or input.numbered_name(), to_finite(z[np.newaxis], input.reader.name)[0], label)


def parse_latent(fields: Sequence[str], where: str) -> Array:
    """The latent (D,) in the fields of a table; `where` it is, for errors.

    Raises:
        VaectlError: a field is not a number, NaN, infinite, or outside the range of float32.
    """
    values = []
    for dim, text in enumerate(fields):
        try:
            value = float(text)
        except ValueError:
            value = nan
        if not abs(value) <= MAX_FLOAT32:  # nor is NaN
            raise VaectlError(f"{where}: z{dim} is {text[:MAX_QUOTED]!r}, not a finite float32 number: correct it")
        values.append(value)
    return np.array(values, np.float32)


def latent_items(
    sources: Sequence[Source],
    latent_dim: int | None,
    encode: Callable[[Image.Image], Array] | None = None,
    policy: SkipPolicy | None = None,
) -> Iterator[Item]:
    """Each latent with its name; images are encoded if `encode` is given."""

    def check_dim(found: int | None, what: str) -> None:
        nonlocal latent_dim
        if found == 0:
            raise VaectlError(f"{what}: latents have at least one dimension")
        latent_dim = latent_dim or found
        if found is None or found != latent_dim:
            raise VaectlError(f"{what}: latents of shape (N, {latent_dim or 'D'}) are expected: encode with the same checkpoint")

    def stack_shape(found: tuple[int, ...], path: str) -> tuple[int, ...]:
        check_dim(found[-1] if len(found) in (1, 2) else None, f"{path} is an array of shape {found}")
        return (1, *found) if len(found) == 1 else found

    policy = policy or SkipPolicy()
    for input in (input for source in sources for input in source.inputs(policy)):
        if isinstance(input, Input) and input.format in ARRAY_FORMATS:
            yield from array_rows(input, stack_shape, to_finite)
            continue
        if isinstance(input, Input) and input.format == "CSV":
            yield from table_rows(input, check_dim)
            continue
        if isinstance(input, Input) and input.format == "PARQUET":
            yield from parquet_rows(input, check_dim)
            continue
        if encode is None:
            is_image = isinstance(input, StoredImage) or input.format in READABLE_FORMATS
            advice = (
                "run vaectl encode on it first"
                if is_image
                else "write them with vaectl encode (a CSV begins with the line name,z0,z1,...)"
            )
            raise VaectlError(f"{input.describe()}: latents (NPY or CSV) are expected: {advice}")
        try:
            name, image = load_image(input)
        except VaectlError as error:
            policy.handle(error)
            continue
        z = encode(image)
        check_dim(len(z), f"{name} has a latent of shape {z.shape}")
        yield Item(name, z)
    policy.summarize()


def load_image(input: Input | StoredImage) -> tuple[str, Image.Image]:
    """The name of an image, and the image.

    Raises:
        VaectlError: it is damaged or not an image.
    """
    if isinstance(input, StoredImage):
        return input.name, input.image
    name, data = read_image(input)
    return name, codecs.decode_image(data, input.reader.name)


@lru_cache(maxsize=4)
def read_image_file(path: str) -> Image.Image:
    """The image in a file, with its alpha; cached, because a pipe can be read only once.

    Raises:
        VaectlError: it is missing, damaged or not an image.
    """
    with files.open_reader(path) as reader:
        return codecs.open_image(streams.read_image(reader, files.sniff_format(reader)), reader.name)[0]
