"""Where commands write: batches become an array, a table, an image, an animation, a folder of images or numbered images."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile

import numpy as np

from vaectl.base.arrays import Array
from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.images import codecs, formats, sheets
from vaectl.images.formats import ANIMATED_FORMATS, IMAGE_FORMATS, STILL_FORMATS
from vaectl.images.metadata import Metadata
from vaectl.io import files, npy, remote, tables, terminal
from vaectl.io.records import Batch

LATENT_FORMATS = ("npy", "csv", "parquet")
ALL_FORMATS = LATENT_FORMATS + IMAGE_FORMATS
MODEL_FORMATS = ("onnx",)
PAGE_FORMATS = ("html",)
SUFFIXES = {
    **formats.SUFFIXES,
    **{f".{format}": format for format in LATENT_FORMATS + MODEL_FORMATS + PAGE_FORMATS},
    ".htm": "html",
}
EXAMPLES = {
    "npy": "z.npy",
    "csv": "z.csv",
    "parquet": "z.parquet",
    "onnx": "model.onnx",
    "html": "latent.html",
}  # file names, for messages
NUMBER = re.compile(r"%0?\d{0,2}d")
MAX_SPOOL_BYTES = 1 << 20
ANIMATION_SIDE = 256  # pixels; below this, animations are too small to watch


@dataclass(frozen=True)
class Destination:
    """A place to write to, checked before any work.

    `path` is a file, a folder or a numbered name; "-" is stdout, "" the terminal on stdout. With `keeps_format`, photos are
    written into a folder in the formats they came in.
    """

    path: str
    format: str
    animated: bool = False
    keeps_format: bool = False

    @property
    def is_terminal(self) -> bool:
        return not self.path

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/") or (self.path != files.STDOUT and os.path.isdir(self.path))

    @property
    def is_numbered(self) -> bool:
        return NUMBER.search(os.path.basename(self.path)) is not None


@dataclass(frozen=True)
class Layout:
    """How images are laid out.

    `columns` of a sheet: None is one row for up to 20 images, else near-square. `scale` enlarges each pixel; None enlarges small
    animations only. `fps` is the frame rate of an animation.
    """

    columns: int | None = None
    scale: int | None = None
    fps: float = 10


def parse_destination(
    output: str | None, format: str | None, formats: tuple[str, ...], *, animate: bool = False, keep_format: bool = False
) -> Destination:
    """Where to write and in which format: `format`, else the suffix of `output`, else the first of the command's `formats`.

    On a terminal, images are shown if the command makes any. GIF and APNG are animations; WebP is with `animate`. With
    `keep_format`, photos in a folder keep theirs.

    Raises:
        UsageError: a format the command does not write, an array or a model for a terminal, or `keep_format` without a folder.
        VaectlError: a place that cannot be written.
    """
    suffix = "" if os.path.isdir(output or "") else os.path.splitext(output or "")[1].lower()
    images = [format for format in formats if format in IMAGE_FORMATS]
    goes_to_folder = output is not None and (output.endswith("/") or os.path.isdir(output))
    default = images[0] if goes_to_folder and images else formats[0]
    chosen = format or (SUFFIXES.get(suffix, suffix) if suffix else default)
    if chosen not in formats:
        advice = "change the suffix of -o" + (", or add --format" if len(formats) > 1 else "")
        raise UsageError(f"{output or format!r}: this command writes {', '.join(formats)}", advice)
    if animate and chosen not in ANIMATED_FORMATS:
        raise UsageError(f"{chosen} is not animated: use {', '.join(ANIMATED_FORMATS)}, as in -o walk.webp --animate")
    if keep_format and (format or not goes_to_folder):
        raise UsageError("--keep-format needs an output folder and no --format, as in -o clean/ --keep-format")
    animated = animate or (chosen in IMAGE_FORMATS and chosen not in STILL_FORMATS)
    if output is None:
        if not files.stdout_is_terminal():
            return Destination(files.STDOUT, chosen, animated)
        if format == "csv":
            return Destination(files.STDOUT, chosen)
        if chosen not in IMAGE_FORMATS and (format or not images):
            example = EXAMPLES[chosen]
            raise UsageError(f"stdout is a terminal: redirect it (> {example}), name a file (-o {example}), or force it (-o -)")
        return Destination("", "png")
    destination = Destination(output, chosen, animated, keep_format)
    if destination.is_folder and chosen not in IMAGE_FORMATS:
        example = f"{output.rstrip('/')}/{EXAMPLES[chosen]}"
        raise UsageError(f"{output!r} is a folder, but {chosen} is one file: name the file, as in -o {example}")
    if destination.is_folder:
        files.check_folder_writable(output)
    else:
        files.check_writable(output)
    explicit = suffix or format or destination.is_folder or destination.is_numbered or output == files.STDOUT
    if not explicit and not os.path.exists(output):
        hint = f"; {output}/ would be a folder" if chosen in IMAGE_FORMATS else ""
        warn(f"{output!r} will be written as one {chosen} file{hint}")
    return destination


def write_latents(batches: Iterable[Batch], destination: Destination) -> None:
    """Write batches of latents (N, D)."""
    {"npy": write_npy, "csv": write_csv, "parquet": write_parquet}[destination.format](batches, destination.path)


def write_images(batches: Iterable[Batch], destination: Destination, layout: Layout) -> None:
    """Write batches of images (N, H, W, C): one file each into a folder or to numbered names, an animation, or a sheet.

    Raises:
        VaectlError: a sheet or an animation would be too large.
    """
    if destination.is_folder or destination.is_numbered:
        write_each((batch.map(lambda images: sheets.upscale(images, layout.scale or 1)) for batch in batches), destination)
        return
    found, height, width = [], 0, 0
    for batch in batches:
        found.append(batch)
        height, width = max(height, batch.arrays.shape[1]), max(width, batch.arrays.shape[2])
        sheets.check_size(sum(map(len, found)), height, width)
    stack = sheets.upscale(sheets.pad_to_common_size([image for batch in found for image in batch.arrays]), layout.scale or 1)
    if destination.is_terminal:
        terminal.show(stack, layout.columns)
        return
    if destination.animated:
        enlarged = stack if layout.scale else sheets.upscale(stack, max(1, ANIMATION_SIDE // max(stack.shape[1:3])))
        data = codecs.encode_animation(enlarged, destination.format, layout.fps)
    else:
        sheet = sheets.make_sheet(stack, layout.columns)
        if len(stack) > 1 and any(batch.metadata.has_any for batch in found):
            advice = "write to a folder, as in -o out/, to keep them separate"
            warn(f"{len(stack)} images become one sheet without their metadata: {advice}")
        metadata = Metadata(bits=max(batch.metadata.bits for batch in found))
        data = codecs.encode_image(sheet, destination.format, found[0].metadata if len(stack) == 1 else metadata)
    with files.open_output(destination.path) as stream:
        stream.write(data)


def write_either(batches: Iterable[Batch], destination: Destination, decode: Callable[[Array], Array], layout: Layout) -> None:
    """Write batches of latents (N, D), decoded if the destination is an image."""
    if destination.format in LATENT_FORMATS:
        write_latents(batches, destination)
    else:
        write_images((batch.map(decode) for batch in batches), destination, layout)


def write_npy(batches: Iterable[Batch], path: str) -> None:
    """Write one float32 array (N, D); its rows wait on disk until N, which the header holds, is known."""
    rows, width = 0, 0
    with SpooledTemporaryFile(MAX_SPOOL_BYTES) as spool:
        for batch in batches:
            with files.translate_errors("a temporary file"):
                spool.write(np.ascontiguousarray(batch.arrays, "<f4").tobytes())
            rows, width = rows + len(batch.arrays), batch.arrays.shape[1]
        spool.seek(0)
        with files.open_output(path) as stream:
            npy.write_header(stream, rows, width)
            copyfileobj(spool, stream, 1 << 20)


def write_csv(batches: Iterable[Batch], path: str) -> None:
    """Write one line per item: its name, its label if the first items have any, then z0, z1, ... with all digits of float32."""
    with files.open_output(path) as stream:
        labeled = False
        for index, batch in enumerate(batches):
            if index == 0:
                labeled = any(label is not None for label in batch.labels)
                leading = ["name", "label"] if labeled else ["name"]
                stream.write(tables.format_record(*tables.latent_columns(leading, batch.arrays.shape[1])))
            labels = batch.labels or [None] * len(batch)
            for name, label, z in zip(batch.names, labels, batch.arrays, strict=True):
                stream.write(tables.format_record(name, *[label or ""] * labeled, *map(str, z)))


def write_parquet(batches: Iterable[Batch], path: str) -> None:
    """Write a table of the names, the labels if the first items have any, and the latents."""
    with files.open_output(path) as stream:
        tables.write_parquet(batches, stream)


def write_each(batches: Iterable[Batch], destination: Destination) -> None:
    """Write each image to a file of its own, named after the input or numbered from 0."""
    numbers = count()
    taken: set[str] = set()
    for batch in tell_written(batches, destination.path):
        format = batch.metadata.format if destination.keeps_format else destination.format
        for name, image in zip(batch.names, batch.arrays, strict=True):
            if destination.is_folder:
                check_name(name, destination.path)
                path = os.path.join(destination.path, unique_name(name, format, taken, destination.keeps_format))
                folder = os.path.dirname(path)
                if not remote.is_url(folder):
                    with files.translate_errors(repr(folder)):
                        os.makedirs(folder, exist_ok=True)
            else:
                folder, file = os.path.split(destination.path)
                path = os.path.join(folder, insert_number(file, next(numbers)))
            with files.open_output(path) as stream:
                stream.write(codecs.encode_image(image, format, batch.metadata))


def tell_written(batches: Iterable[Batch], path: str) -> Iterator[Batch]:
    """Pass batches on; if making one fails, warn how many images were written before."""
    written = 0
    try:
        for batch in batches:
            yield batch
            written += len(batch)
    except VaectlError:
        if written:
            warn(f"{written} image{'s were' if written > 1 else ' was'} written to {path!r} before the error")
        raise


def check_name(name: str, folder: str) -> None:
    """Raise a VaectlError if a name, which a table may hold, does not stay in the folder or is no name of a file."""
    if os.path.isabs(name) or os.pardir in name.split(os.sep) or "\0" in name:
        raise VaectlError(
            f"{name!r} is not a file name within {folder!r}: correct it, or number the files, as in -o image-%03d.png"
        )


def insert_number(file: str, number: int) -> str:
    """The file name with a number: `frame-%03d.png` becomes `frame-007.png`."""
    return NUMBER.sub(lambda found: found[0] % number, file)


def unique_name(name: str, format: str, taken: set[str], keep_suffix: bool = False) -> str:
    """A file name for the image called `name`; where `a.jpg` and `a.png` collide, the second becomes `a-2.png`.

    With `keep_suffix`, a suffix of the same format stays as it is spelled, and one of another comes before the new one.
    """
    stem, suffix = os.path.splitext(name)
    kept = keep_suffix and SUFFIXES.get(suffix.lower()) == format
    stem = stem if kept or (suffix.lower() in formats.IMAGE_SUFFIXES and not keep_suffix) else name
    suffix = suffix if kept else f".{format}"
    candidates = (f"{stem}{'' if number == 1 else f'-{number}'}{suffix}" for number in count(1))
    chosen = next(name for name in candidates if name not in taken)
    taken.add(chosen)
    return chosen
