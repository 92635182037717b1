"""Where a verb writes: batches become an array, a table, a picture, a folder of pictures or numbered pictures."""

import csv
import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import StringIO
from itertools import count
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import Remark, UsageError
from vaectl.io import arrays, codecs, files, sheets
from vaectl.io.sources import Batch

Array = NDArray[np.float32]

LATENT_FORMATS = ("npy", "csv")
STILL_FORMATS = ("png", "jpg", "webp")
PICTURE_FORMATS = (*STILL_FORMATS, "gif", "apng")
ANY_FORMATS = LATENT_FORMATS + PICTURE_FORMATS
SUFFIXES = {".jpeg": "jpg"} | {f".{format}": format for format in ANY_FORMATS}

ANIMATIONS = ("gif", "apng", "webp")
NUMBER = re.compile(r"%0?\d{0,2}d")
SPOOLED_IN_MEMORY = 1 << 20


@dataclass(frozen=True)
class Destination:
    """A place to write to, found fit before any work.

    `path` is a file, a folder or a name with a number in it; "-" is stdout, "" the terminal of a person who watches.
    """

    path: str
    format: str
    animated: bool = False

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
    """How pictures are laid out.

    `show` draws a picture on the terminal. `columns` of a sheet: one row up to 20 pictures, else near-square, where None. Each
    pixel becomes `scale` x `scale`. `fps` are the pictures a second of an animation.
    """

    show: Callable[[Array], None]
    columns: int | None = None
    scale: int = 1
    fps: float = 10


def destination(output: str | None, format: str | None, formats: tuple[str, ...], *, animate: bool = False) -> Destination:
    """Where to write, and how: by `format`, else by the suffix of `output`, else the first of the verb's `formats`.

    A person at a terminal is shown pictures where the verb has any. GIF and APNG are animations, WebP is with `animate`.

    Raises:
        UsageError: a format the verb does not write, or an array for a terminal.
        VaectlError: a place that cannot be written.
    """
    suffix = "" if os.path.isdir(output or "") else os.path.splitext(output or "")[1].lower()
    chosen = format or (SUFFIXES.get(suffix, suffix) if suffix else formats[0])
    if chosen not in formats:
        raise UsageError(
            f"{output or format!r}: this verb writes {', '.join(formats)}: change the suffix of -o, or give --format"
        )
    if animate and chosen not in ANIMATIONS:
        raise UsageError(f"{chosen} is no animation: write {', '.join(ANIMATIONS)}, as in -o walk.webp --animate")
    animated = animate or chosen in ("gif", "apng")
    if output is None:
        if not files.stdout_is_terminal():
            return Destination(files.STDOUT, chosen, animated)
        if chosen in LATENT_FORMATS and (format or not set(formats) & set(PICTURE_FORMATS)):
            raise UsageError("stdout is a terminal: redirect it (> z.npy), name a file (-o z.npy), or insist (-o -)")
        return Destination("", "png")
    place = Destination(output, chosen, animated)
    if not (suffix or format or place.is_folder or place.is_numbered or os.path.exists(output) or output == files.STDOUT):
        other = "" if chosen in LATENT_FORMATS else f"; {output}/ would be a folder"
        warnings.warn(f"{output!r} will be one {chosen} file{other}", Remark, stacklevel=2)
    if place.is_folder and chosen in LATENT_FORMATS:
        raise UsageError(f"{output!r} is a folder, and latents go into one file: name it, as in -o {output.rstrip('/')}/z.npy")
    if place.is_folder:
        files.check_folder(output)
    else:
        files.check_writable(output)
    return place


def write_latents(batches: Iterable[Batch], place: Destination) -> None:
    """Write latents, (N, D) in batches, to `place`."""
    {"npy": write_npy, "csv": write_csv}[place.format](batches, place.path)


def write_pictures(batches: Iterable[Batch], place: Destination, layout: Layout) -> None:
    """Write pictures, (N, H, W, C) in batches: a file each into a folder or to numbered names, an animation, or a sheet."""
    enlarged = (batch.map(lambda stack: sheets.enlarge(stack, layout.scale)) for batch in batches)
    if place.is_folder or place.is_numbered:
        write_each(enlarged, place)
        return
    found = list(enlarged)
    stack = sheets.alike([picture for batch in found for picture in batch.arrays])
    if place.is_terminal:
        layout.show(sheets.sheet(stack, layout.columns))
        return
    if place.animated:
        data = codecs.animation(stack, place.format, layout.fps)
    else:
        data = codecs.encode(sheets.sheet(stack, layout.columns), place.format, max(batch.depth for batch in found))
    with files.written(place.path) as stream:
        stream.write(data)


def write_either(batches: Iterable[Batch], place: Destination, decode: Callable[[Array], Array], layout: Layout) -> None:
    """Write latents, (N, D) in batches, as they are where `place` takes latents, decoded where it takes pictures."""
    if place.format in LATENT_FORMATS:
        write_latents(batches, place)
    else:
        write_pictures((batch.map(decode) for batch in batches), place, layout)


def write_npy(batches: Iterable[Batch], path: str) -> None:
    """One float32 array (N, D); its rows wait on disk until they are counted, for the count stands in front."""
    rows, width = 0, 0
    with SpooledTemporaryFile(SPOOLED_IN_MEMORY) as spool:
        for batch in batches:
            with files.told("a temporary file"):
                spool.write(np.ascontiguousarray(batch.arrays, "<f4").tobytes())
            rows, width = rows + len(batch.arrays), batch.arrays.shape[1]
        spool.seek(0)
        with files.written(path) as stream:
            arrays.write_header(stream, rows, width)
            copyfileobj(spool, stream, 1 << 20)


def write_csv(batches: Iterable[Batch], path: str) -> None:
    """One line an item: its name, then z0, z1, ... with as many digits as float32 holds."""
    with files.written(path) as stream:
        for index, batch in enumerate(batches):
            if index == 0:
                stream.write(csv_line("name", *(f"z{dimension}" for dimension in range(batch.arrays.shape[1]))))
            for name, z in zip(batch.names, batch.arrays, strict=True):
                stream.write(csv_line(name, *map(str, z)))


def csv_line(*values: str) -> bytes:
    """One line of a table; names with undecodable bytes go out as they came in."""
    text = StringIO()
    csv.writer(text).writerow(values)  # with its own end of line, or it would not quote a \r
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"


def write_each(batches: Iterable[Batch], place: Destination) -> None:
    """Each picture as a file of its own, named as the input was or numbered from 0."""
    numbers = count()
    taken: set[str] = set()
    for batch in batches:
        for name, picture in zip(batch.names, batch.arrays, strict=True):
            if place.is_folder:
                path = os.path.join(place.path, unused(name, place.format, taken))
                folder = os.path.dirname(path)
                with files.told(repr(folder)):
                    os.makedirs(folder, exist_ok=True)
            else:
                folder, file = os.path.split(place.path)
                path = os.path.join(folder, numbered(file, next(numbers)))
            with files.written(path) as stream:
                stream.write(codecs.encode(picture, place.format, batch.depth))


def numbered(file: str, number: int) -> str:
    """The name of a file with a number in it: `frame-%03d.png` becomes `frame-007.png`."""
    return NUMBER.sub(lambda found: found[0] % number, file)


def unused(name: str, format: str, taken: set[str]) -> str:
    """A file name for the picture called `name`; where `a.jpg` and `a.png` meet, the second becomes `a-2.png`."""
    stem, suffix = os.path.splitext(name)
    stem = stem if suffix.lower() in codecs.SUFFIXES else name
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.{format}" for number in count(1))
    chosen = next(name for name in names if name not in taken)
    taken.add(chosen)
    return chosen
