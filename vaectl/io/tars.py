"""Images in tar files, each with its class beside it, as in WebDataset: `0001.jpg`, `0001.cls`."""

import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product

from vaectl.base.errors import VaectlError
from vaectl.images.formats import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, READABLE_FORMATS
from vaectl.io import files
from vaectl.io.decoders import Decoder, Task
from vaectl.io.files import PeekableReader
from vaectl.io.sources import SkipPolicy, Source, image_task

SUFFIXES = (".tar", ".tar.gz", ".tgz")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
CLASS_SUFFIX = "cls"
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error)


def expand_braces(pattern: str) -> list[str]:
    """The names that `shards/{000..127}.tar` stands for, as in Bash."""
    ranges = []
    for first, last in BRACES.findall(pattern):
        step = 1 if int(last) >= int(first) else -1
        ranges.append([str(number).zfill(len(first)) for number in range(int(first), int(last) + step, step)])
    parts = BRACES.sub("\0", pattern).split("\0")
    return ["".join(part + number for part, number in zip(parts, [*numbers, ""], strict=True)) for numbers in product(*ranges)]


def is_tar(path: str) -> bool:
    """Whether a path names tar files."""
    return path.endswith(SUFFIXES)


@dataclass(frozen=True)
class TarImages(Source):
    """The images of a tar file, in constant memory."""

    path: str

    def describe(self) -> str:
        return repr(self.path)

    def tasks(self, decoder: Decoder, policy: SkipPolicy) -> Iterator[Task]:
        try:
            for name, data in read_images(self.path):
                yield image_task(PeekableReader(BytesIO(data), f"{self.path!r}: {name!r}"), name, decoder)
        except DamagedTarError as error:
            policy.handle(error, images=0, then="what follows in it is skipped")
        except VaectlError as error:
            policy.handle(error, images=0)


class DamagedTarError(VaectlError):
    """A tar file is damaged, or ends early."""


def read_images(path: str) -> Iterator[tuple[str, bytes]]:
    """The names and the bytes of the images in a tar file.

    The name of an image with a class begins with it, as if the class were its folder.

    Raises:
        VaectlError: the file cannot be read.
        DamagedTarError: it ends early.
    """
    waiting: list[tuple[str, bytes]] = []  # with the current key
    key, label = "", ""

    def finish() -> Iterator[tuple[str, bytes]]:
        return ((os.path.join(label, name), data) for name, data in waiting)

    with files.open_reader(path) as reader:
        watched = WatchedEnd(reader)
        try:
            with tarfile.open(fileobj=watched, mode="r|*") as archive:  # type: ignore[call-overload]
                for member in archive:
                    archive.members = []  # or all names of a large file would stay in memory
                    stream = archive.extractfile(member) if member.isfile() and member.size <= MAX_IMAGE_BYTES else None
                    if not stream:
                        continue
                    folder, base = os.path.split(member.name)
                    stem, _, suffix = base.partition(".")
                    if os.path.join(folder, stem) != key:
                        yield from finish()
                        waiting, key, label = [], os.path.join(folder, stem), ""
                    data = stream.read()
                    is_image = files.sniff_format(PeekableReader(BytesIO(data), member.name)) in READABLE_FORMATS
                    if suffix == CLASS_SUFFIX:
                        label = data.decode("utf-8", "replace").strip().replace(os.sep, "-")[:255]
                    elif is_image or base.lower().endswith(IMAGE_SUFFIXES):  # or damaged ones would be missing unnoticed
                        waiting.append((member.name.lstrip("/"), data))
        except VaectlError:
            raise
        except TAR_ERRORS as error:
            raise DamagedTarError(f"{reader.name} is damaged or ends early ({error})", "copy it again") from error
        if watched.is_cut:
            raise DamagedTarError(f"{reader.name} ends early", "copy it again")
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
