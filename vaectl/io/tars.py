"""WebDataset shards: tar files of images, each with its class beside it (`0001.jpg`, `0001.cls`)."""

import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from itertools import count, islice, product
from typing import BinaryIO, NamedTuple

from vaectl.base.errors import VaectlError
from vaectl.images.formats import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, READABLE_FORMATS
from vaectl.io import files, remote
from vaectl.io.files import PeekableReader
from vaectl.io.sources import Input, SkipPolicy

SUFFIXES = (".tar", ".tar.gz", ".tgz")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
CLASS_SUFFIX = "cls"
IMAGES_PER_MARK = 256
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error)


def expand_braces(pattern: str) -> list[str]:
    """The names that `shards/{000..127}.tar` stands for, as in Bash."""
    ranges = []
    for first, last in BRACES.findall(pattern):
        step = 1 if int(last) >= int(first) else -1
        ranges.append([str(number).zfill(len(first)) for number in range(int(first), int(last) + step, step)])
    parts = BRACES.sub("\0", pattern).split("\0")
    return ["".join(part + number for part, number in zip(parts, [*numbers, ""], strict=True)) for numbers in product(*ranges)]


def is_shards(path: str) -> bool:
    """Whether a path names tar files."""
    return path.endswith(SUFFIXES)


def expand_shards(path: str) -> list[str]:
    """The tar files that a path names, or a path that names none."""
    return expand_braces(path) if is_shards(path) else [path]


@dataclass(frozen=True)
class Shards:
    """The images of tar files, or from `start` to `stop`, one file after another, in constant memory.

    `order` are the numbers of the files, if not all of those that the pattern names are read in their order.
    """

    pattern: str
    start: int = 0
    stop: int | None = None
    order: tuple[int, ...] | None = None

    def describe(self) -> str:
        return repr(self.pattern)

    @cached_property
    def paths(self) -> list[str]:
        """The tar files."""
        paths = expand_braces(self.pattern)
        return paths if self.order is None else [paths[number] for number in self.order]

    def select(self, numbers: Sequence[int]) -> "Shards":
        """Only these of the tar files, in this order."""
        known = self.order if self.order is not None else range(len(self.paths))
        return Shards(self.pattern, order=tuple(known[number] for number in numbers))

    @cached_property
    def indices(self) -> Sequence["Index"]:
        """The images of each tar file on this machine."""
        return [index_shard(path) for path in self.paths]

    @property
    def are_countable(self) -> bool:
        """Whether all are files, and not URLs or streams."""
        return all(os.path.isfile(path) and not remote.is_url(path) for path in self.paths)

    def with_indices(self, indices: Sequence["Index"]) -> "Shards":
        """The same images, whose tar files somebody has indexed."""
        shards = replace(self)
        shards.__dict__["indices"] = indices
        return shards

    def count(self) -> int | None:
        if not self.are_countable:
            return None
        return len(range(sum(index.images for index in self.indices))[self.start : self.stop])

    def inputs(self, policy: SkipPolicy) -> Iterator[Input]:
        for piece in self.pieces(policy):
            try:
                for name, data, _ in islice(read_shard(piece.path, piece.mark), piece.start, piece.stop):
                    reader = PeekableReader(BytesIO(data), f"{piece.path!r}: {name!r}")
                    yield Input(reader, files.sniff_format(reader), name, count())
            except DamagedShardError as error:
                policy.handle(error, images=0, then="what follows in it is skipped")
            except VaectlError as error:
                policy.handle(error, images=0)

    def pieces(self, policy: SkipPolicy) -> Iterator["Piece"]:
        """What is read of each tar file; of the parts of a whole, one alone tells of a damaged file."""
        if self.stop is None:
            yield from (Piece(path, START, 0, None) for path in self.paths)
            return
        number, total = 0, sum(index.images for index in self.indices)
        for path, index in zip(self.paths, self.indices, strict=True):
            if index.error and (self.start <= number < self.stop or number == self.stop == total):
                policy.handle(index.error, images=0, then="what follows in it is skipped")
            first, last = max(self.start - number, 0), min(self.stop - number, index.images)
            if first < last:
                mark = max(mark for mark in index.marks if mark.image <= first)
                yield Piece(path, mark, first - mark.image, last - mark.image)
            number += index.images

    def part(self, start: int, stop: int) -> "Shards":
        return replace(self, start=self.start + start, stop=self.start + stop).with_indices(self.indices)


class Mark(NamedTuple):
    """Where an image is: its number in the tar file, and the byte at which it begins."""

    image: int
    offset: int


START = Mark(0, 0)


class Piece(NamedTuple):
    """The images of a tar file from `start` to `stop`, counted from a mark."""

    path: str
    mark: Mark
    start: int
    stop: int | None


class DamagedShardError(VaectlError):
    """A tar file is damaged, or ends early."""


class Index(NamedTuple):
    """The number of images in a tar file, where some of them are, and what is wrong with what follows them."""

    images: int
    marks: Sequence[Mark]
    error: DamagedShardError | None


class Member(NamedTuple):
    """An image in a tar file, with its class in its name, and the byte at which it begins, if it is known."""

    name: str
    data: bytes
    offset: int | None


def index_shard(path: str) -> Index:
    """Count the images of a tar file, and mark one in many; raises VaectlError if it cannot be opened."""
    marks = [START]
    images = 0
    try:
        for member in read_shard(path, only_beginnings=True):
            if member.offset is not None and images >= marks[-1].image + IMAGES_PER_MARK:
                marks.append(Mark(images, member.offset))
            images += 1
    except DamagedShardError as error:
        return Index(images, marks, error)
    return Index(images, marks, None)


def read_shard(path: str, mark: Mark = START, *, only_beginnings: bool = False) -> Iterator[Member]:
    """The images in a tar file from a mark on, or only their first bytes.

    The name of an image with a class begins with it, as if the class were its folder.

    Raises:
        VaectlError: the file cannot be read.
        DamagedShardError: it ends early.
    """
    waiting: list[Member] = []  # with the current key
    key, label = "", ""
    start = 0  # of the current key

    def finish() -> Iterator[Member]:
        for image in waiting:
            yield image._replace(name=os.path.join(label, image.name)) if label else image

    with files.open_reader(path) as reader:
        watched = WatchedEnd(reader)
        # What is skipped in a file that is not compressed need not be read.
        file = reader.seekable() if watched.is_plain and reader.stream.seekable() else None
        if file:
            file.seek(mark.offset)
        try:
            with tarfile.open(fileobj=file or watched, mode="r:" if file else "r|*") as archive:  # type: ignore[call-overload]
                for member in archive:
                    archive.members = []  # or all names of a large file would stay in memory
                    stream = archive.extractfile(member) if member.isfile() and member.size <= MAX_IMAGE_BYTES else None
                    if not stream:
                        continue
                    folder, base = os.path.split(member.name)
                    stem, _, suffix = base.partition(".")
                    if os.path.join(folder, stem) != key:
                        yield from finish()
                        waiting, key, label, start = [], os.path.join(folder, stem), "", member.offset
                    data = stream.read(files.MAX_SIGNATURE_BYTES)
                    is_image = files.sniff_format(PeekableReader(BytesIO(data), member.name)) in READABLE_FORMATS
                    is_image = is_image or base.lower().endswith(IMAGE_SUFFIXES)  # or damaged ones would be missing unnoticed
                    if not (is_image and only_beginnings):
                        data += stream.read()
                    if suffix == CLASS_SUFFIX:
                        label = data.decode("utf-8", "replace").strip().replace(os.sep, "-")[:255]
                    elif is_image:
                        offset = member.offset if file and member.offset == start else None
                        waiting.append(Member(member.name.lstrip("/"), data, offset))
        except VaectlError:
            raise
        except TAR_ERRORS as error:
            raise DamagedShardError(f"{reader.name} is damaged or ends early ({error})", "copy it again") from error
        if is_cut(file) if file else watched.is_cut:
            raise DamagedShardError(f"{reader.name} ends early", "copy it again")
    yield from finish()


class WatchedEnd:
    """A tar file that is read, and whether it ends without the empty blocks that end every one."""

    def __init__(self, reader: PeekableReader) -> None:
        self.reader = reader
        self.is_plain = reader.peek(262)[257:262] == b"ustar"
        self.tail = b""

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self.reader.read(size)
        self.tail = (self.tail + data)[-2 * tarfile.BLOCKSIZE :]
        return data

    @property
    def is_cut(self) -> bool:
        """Whether all was read, and its end is not empty."""
        return self.is_plain and not self.reader.peek(1) and bool(self.tail.strip(b"\0"))


def is_cut(stream: BinaryIO) -> bool:
    """Whether the end of a tar file is not empty."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 2 * tarfile.BLOCKSIZE))
    return bool(stream.read().strip(b"\0"))
