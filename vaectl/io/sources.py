"""Where images and arrays come from: files, folders, streams and data sets."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import count
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image

from vaectl.base.errors import DataLossWarning, UsageError, VaectlError, warn
from vaectl.base.prefetch import prefetch
from vaectl.base.text import list_names
from vaectl.images import codecs
from vaectl.images.formats import READABLE_FORMATS, UNREADABLE_FORMATS
from vaectl.io import files, npy, remote, streams, tables
from vaectl.io.decoders import Decoder, LatentDecoder, Task
from vaectl.io.files import PeekableReader
from vaectl.io.records import Sample

T = TypeVar("T")

ARRAY_FORMATS = ("NPY", "NPZ")


@dataclass
class SkipPolicy:
    """What happens to images that cannot be read: the first one ends the work, or with `skip` they are listed and skipped.

    `skip` is None where the command has no `--skip-bad`; `purpose` is what could not be done with them.
    """

    skip: bool | None = None
    purpose: str = "read"
    skipped: int = field(default=0, init=False)
    told: set[str] = field(default_factory=set, init=False)

    def handle(self, error: VaectlError, images: int = 1, then: str = "skipped") -> None:
        """Raise the error, or warn, count the images as skipped, and continue."""
        if self.skip is None or (not self.skip and not error.advice):
            raise error
        if not self.skip:
            raise VaectlError(error.what, f"{error.advice}, or skip such files with --skip-bad") from error
        self.skipped += images
        if error.what not in self.told:  # where files are read again and again
            warn(f"{error.what}: {then}")
        self.told.add(error.what)

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
            warn(f"skipped {self.skipped} image{'s' if self.skipped > 1 else ''} that could not be {self.purpose}")


class Source(Protocol):
    """Where samples come from."""

    def describe(self) -> str:
        """What it is called in errors."""

    def count(self) -> int | None:
        """About how many images or rows there are; None if only reading would tell, and it is divided whole."""
        return None

    def part(self, start: int, stop: int | None) -> "Source":
        """What it holds from `start` to `stop`, of as many as `count` says; None is the end."""
        return self

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        """The samples in order, or what reads them; each is to be taken before the next one is asked for."""


def image_task(reader: PeekableReader, name: str, decoder: Decoder) -> Task:
    """Read the bytes of an image now, to be decoded later; an error on the way is the result."""
    try:
        format = files.sniff_format(reader)
        decoder.check_format(format, reader.name)
        return decoder.task(name, reader.name, streams.read_image(reader, format))
    except VaectlError as error:
        return error


@dataclass(frozen=True)
class File(Source):
    """A file, stdin ("-") or a pipe; a stream may hold several images or arrays one after another.

    Of an array, only the rows from `start` to `stop`; None is the end, with the arrays that follow.
    """

    path: str
    start: int = 0
    stop: int | None = None

    def describe(self) -> str:
        return files.STDIN_NAME if self.path == files.STDIN else repr(self.path)

    def count(self) -> int | None:
        if not os.path.isfile(self.path):
            return None
        with files.open_reader(self.path) as reader:
            format = files.sniff_format(reader)
            if format in tables.FORMATS:
                return None
            return next(iter(npy.read_header(reader).shape), 1) if format == "NPY" else 1

    def part(self, start: int, stop: int | None) -> "File":
        return replace(self, start=start, stop=stop)

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        name = files.STDIN_NAME if self.path == files.STDIN else os.path.basename(self.path)
        # The names of rows: `z-00000`, `z-00001`, ... in `z.npy`.
        names = (f"{os.path.splitext(name)[0]}-{number:05d}" for number in count(self.start))
        start, stop = self.start, self.stop
        with files.open_reader(self.path) as reader:
            while True:
                format = files.sniff_format(reader)
                if format in ARRAY_FORMATS:
                    yield from array_rows(reader, format, names, start, stop, decoder)
                elif format in tables.FORMATS and isinstance(decoder, LatentDecoder):
                    yield from tables.read_rows(reader, format, names, decoder.check_dim)
                else:
                    task = image_task(reader, next(names) if reader.is_stream else name, decoder)
                    if isinstance(task, VaectlError) and reader.is_stream and policy.skip:
                        policy.handle(task)
                        warn(f"{reader.name}: what follows the damaged image is lost", DataLossWarning)
                        return
                    yield task
                    if isinstance(task, VaectlError):
                        return
                if stop is not None or not reader.peek(1):
                    return
                start = 0


def array_rows(
    reader: PeekableReader, format: str, names: Iterator[str], start: int, stop: int | None, decoder: Decoder
) -> Iterator[Sample]:
    """The rows of an array from `start` to `stop`, after their shape and their values were checked."""
    where = reader.name
    array = npy.Archive(reader).only() if format == "NPZ" else reader
    header = npy.read_header(array)
    position = 0
    for block in npy.read_blocks(array, header, decoder.check_shape(header.shape, where)):
        end = position + len(block)
        first, last = max(start, position), min(end, stop or end)
        if first < last:
            rows = decoder.check_values(block[first - position : last - position], where, first)
            yield from (decoder.row(next(names), row) for row in rows)
        position = end
        if stop is not None and position >= stop:
            return
    if format == "NPZ" and array.peek(1):
        raise VaectlError(f"{array.name} has other data after its array: save it again")


@dataclass(frozen=True)
class Folder(Source):
    """All images under a folder, or from `start` to `stop`, sorted by path; it is listed once."""

    path: str
    start: int = 0
    stop: int | None = None

    def describe(self) -> str:
        return repr(self.path)

    @cached_property
    def listing(self) -> tuple[list[str], list[VaectlError]]:
        """The regular files under it by their path within it, sorted; and an error for each subfolder that cannot be listed."""
        if remote.is_url(self.path):
            return remote.list_files(self.path)[self.start : self.stop], []
        found, errors, folders = [], [], [""]
        while folders:
            inner = folders.pop()
            path = os.path.join(self.path, inner)
            try:
                with files.translate_errors(repr(path if inner else self.path)), os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(os.path.join(inner, entry.name))
                        elif is_file(entry):
                            found.append(os.path.join(inner, entry.name))
            except VaectlError as error:
                if not inner:
                    raise
                errors.append(error)
        return sorted(found)[self.start : self.stop], errors

    def files(self, policy: SkipPolicy) -> list[str]:
        """The regular files under it; what happens to subfolders that cannot be listed is said once."""
        found, errors = self.listing
        while errors:
            policy.handle(errors[0], images=0)
            errors.pop(0)
        return found

    def count(self) -> int:
        return len(self.listing[0])

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        """The images, named by their path within the folder; other files are skipped with a warning."""
        found = 0
        unreadable: list[str] = []
        others: list[str] = []
        tasks = (partial(open_file, self.path, path) for path in self.files(policy))
        opened: Iterable[OpenFile | VaectlError] = (
            prefetch(tasks, ahead=1, threads=remote.N_THREADS) if remote.is_url(self.path) else (task() for task in tasks)
        )
        for file in opened:
            if isinstance(file, VaectlError):
                policy.handle(file)
                continue
            with file.opened:
                if file.format in READABLE_FORMATS:
                    found += 1
                    yield image_task(file.reader, file.path, decoder)
                else:
                    (unreadable if file.format in UNREADABLE_FORMATS else others).append(file.path)
        if unreadable:
            ignored = f"ignored {' or '.join(UNREADABLE_FORMATS)}, which vaectl does not read ({list_names(unreadable)})"
            warn(f"{self.path!r}: {ignored}: convert it to JPEG or PNG")
        if not found and not self.start and self.stop is None:
            raise no_images(self.path)
        if others:
            what = "1 file that is not an image" if len(others) == 1 else f"{len(others):,} files that are not images"
            warn(f"{self.path!r}: ignored {what} ({list_names(others)})")

    def part(self, start: int, stop: int | None) -> "Folder":
        found, errors = self.listing
        part = Folder(self.path, self.start + start, None if stop is None else self.start + stop)
        part.__dict__["listing"] = found[start:stop], errors  # or it would be listed again
        return part


@dataclass(frozen=True)
class OpenFile:
    """A file of a folder, by its path within it, whose format is known; `opened` closes it."""

    path: str
    reader: PeekableReader
    format: str
    opened: ExitStack


def open_file(folder: str, path: str) -> OpenFile | VaectlError:
    """Open a file of a folder, and read its beginning."""
    with ExitStack() as opened:
        try:
            reader = opened.enter_context(files.open_reader(os.path.join(folder, path)))
            return OpenFile(path, reader, files.sniff_format(reader), opened.pop_all())
        except VaectlError as error:
            return error


@dataclass(frozen=True)
class ImageList(Source):
    """Pillow images in memory, numbered from `start`."""

    images: Sequence[Image.Image]
    start: int = 0

    def describe(self) -> str:
        return "the list of images"

    def count(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int | None) -> "ImageList":
        return ImageList(self.images[start:stop], start)

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        for index, image in enumerate(self.images, self.start):
            pixels = np.asarray(codecs.flatten(image))
            yield decoder.convert(f"image-{index:05d}", pixels.reshape(*pixels.shape[:2], -1), None, None)


@dataclass(frozen=True)
class Shard:
    """The part number `index`, from 1, of `count` parts of what is to be read."""

    index: int
    count: int

    def numbers(self, total: int) -> range:
        """The numbers, of `total` images, in this part.

        Raises:
            VaectlError: fewer images than parts.
        """
        if total < self.count:
            raise VaectlError(f"{total} images cannot be divided into {self.count} shards: use fewer")
        return range(total * (self.index - 1) // self.count, total * self.index // self.count)

    def take(self, sources: Sequence[Source]) -> list[Source]:
        """This part of the sources; the parts, one after another, are the whole.

        If only reading would tell how many images there are, as in tar files, whole sources are given out.

        Raises:
            VaectlError: fewer images, or whole sources, than parts.
        """
        counts = [source.count() for source in sources]
        known = [total for total in counts if total is not None]
        if len(known) < len(counts):
            if len(sources) < self.count:
                found = sources[0].describe() if len(sources) == 1 else f"{len(sources)} inputs"
                what = f"{found} cannot be divided into {self.count} shards, because tar files and pipes are read whole"
                raise VaectlError(what, "use fewer shards, or more tar files")
            wanted = self.numbers(len(sources))
            return list(sources[wanted.start : wanted.stop])
        wanted = self.numbers(sum(known))
        taken, before = [], 0
        for source, total in zip(sources, known, strict=True):
            first, last = max(wanted.start - before, 0), min(wanted.stop - before, total)
            # Only one part reports an empty source, or one damaged from its start.
            tells = total == 0 and (wanted.start <= before < wanted.stop or before == wanted.stop == sum(known))
            if first < last or tells:
                taken.append(source if (first, last) == (0, total) else source.part(first, None if last == total else last))
            before += total
        return taken


def parse_shard(text: str) -> Shard:
    """The shard in "2/8".

    Raises:
        UsageError: anything else.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text!r}: give I/N with I from 1 to N, as in --shard 2/8")
    return Shard(int(index), int(count))


def no_images(folder: str) -> VaectlError:
    """The error for a folder without images."""
    tars = [] if remote.is_url(folder) else sorted(name for name in os.listdir(folder) if name.endswith(".tar"))
    if tars:
        advice = f"name them, as in {os.path.join(folder, '{0000..0127}.tar')!r}"
        return VaectlError(f"{folder!r} contains tar files but no images ({list_names(tars)})", advice)
    return VaectlError(f"{folder!r} contains no images: give another folder")


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a regular file or a link to one."""
    try:
        return entry.is_file()
    except OSError:  # a circular link
        return False


def count_inputs(sources: Sequence[Source]) -> int | None:
    """About how many images or rows the sources hold; None if only reading would tell."""
    counts = [source.count() for source in sources]
    return None if None in counts else sum(found for found in counts if found)
