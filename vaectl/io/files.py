"""Files as bytes: "-" for the standard streams, a look at the first bytes, and writing whole or not at all."""

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import BinaryIO

from vaectl.errors import UsageError, VaectlError
from vaectl.io import locks

STDIN = STDOUT = "-"
STDIN_NAME = "stdin"
STDOUT_NAMES = (STDOUT, "/dev/stdout", "/dev/fd/1")

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "NPY",
    b"PK\x03\x04": "NPZ",
    b"name,z0": "table",
}
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
LONGEST_SIGNATURE = 12
LARGEST_PICTURE = 1 << 29  # bytes
LARGEST_PIPE = 1 << 32  # bytes that wait on disk


ADVICE = {
    errno.ENOENT: ": check the name",
    errno.EEXIST: ": move it away, or write elsewhere",
    errno.EISDIR: ": give a file",
    errno.ENOTDIR: ": check the name",
    errno.EACCES: ": check who may read and write it",
    errno.EBADF: ": it is closed",
    errno.ENOSPC: ": make room or write elsewhere",
}


class Reader:
    """A binary stream, seekable or not, whose next bytes can be looked at before they are read.

    `name` is what errors call it: a file's quoted path, or stdin. In a stream that `runs_on`, pictures may follow one another.
    """

    def __init__(self, stream: BinaryIO, name: str, *, runs_on: bool = False) -> None:
        self.stream = stream
        self.name = name
        self.runs_on = runs_on
        self.ahead = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; they stay to be read."""
        while len(self.ahead) < size and (more := self.more(size - len(self.ahead))):
            self.ahead += more
        return self.ahead[:size]

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. Memory grows with what comes, not with what is asked for."""
        parts = [self.ahead[:size]]
        self.ahead = self.ahead[size:]
        missing = size - len(parts[0])
        while missing and (more := self.more(min(missing, 1 << 20))):
            parts.append(more)
            missing -= len(more)
        return b"".join(parts)

    def more(self, size: int) -> bytes:
        """At most `size` bytes straight from the stream."""
        with told(self.name):  # whoever reads on has left the block in which it was opened
            return self.stream.read(size)

    def seekable(self) -> BinaryIO:
        """All that comes, as a stream in which one may go back and forth; nothing is left to read. A pipe waits on disk."""
        whole = self.stream
        if whole.seekable():
            whole.seek(-len(self.ahead), os.SEEK_CUR)
        else:
            with told("a temporary file"):
                whole = tempfile.TemporaryFile()  # noqa: SIM115 - it is read after this block
                while (data := self.read(1 << 20)) and whole.tell() < LARGEST_PIPE:
                    whole.write(data)
        self.leave()
        return whole

    def leave(self) -> None:
        """Leave unread what is left."""
        self.stream, self.ahead = BytesIO(), b""

    def put_back(self, data: bytes) -> None:
        """Let `data`, just read, be read again."""
        self.ahead = data + self.ahead


def kind_of(reader: Reader) -> str:
    """What comes next in `reader`, by its first bytes: one of PICTURES, "NPY", "NPZ", "empty" or "unknown"."""
    head = reader.peek(LONGEST_SIGNATURE)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    found = (kind for signature, kind in SIGNATURES.items() if head.startswith(signature))
    return next(found, "unknown" if head else "empty")


@contextmanager
def opened(path: str) -> Iterator[Reader]:
    """A reader on a file, or on stdin for "-".

    Raises:
        VaectlError: the file is missing, a folder, or not to be read.
    """
    if path == STDIN:
        with told(STDIN_NAME), open(0, "rb", closefd=False) as stream:
            yield Reader(stream, STDIN_NAME, runs_on=True)
        return
    with told(repr(path)), open(path, "rb") as stream:
        yield Reader(stream, repr(path), runs_on=not stream.seekable())


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turns the system's errors on a file into ours; `name` is its name as a person reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise VaectlError(f"{name}: {what}{ADVICE.get(error.errno or 0, '')}") from error


def stdin_or_usage_error(wanted: str) -> str:
    """The name of stdin, where something is piped in; with a terminal there, the user forgot the argument."""
    if os.isatty(0):
        raise UsageError(f"nothing to read: give {wanted}, or pipe it in")
    return STDIN


def check_writable(path: str) -> None:
    """Fail before any work when the file `path` cannot be written.

    Raises:
        VaectlError: its folder is missing or read-only, or it is a folder itself.
    """
    if path in STDOUT_NAMES:
        return
    with told(repr(path)):
        target = os.path.realpath(path) if is_replaced(path) else os.path.abspath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise VaectlError(f"{path!r}: the folder {folder!r} does not exist: make it first")
    if os.path.isdir(target) or path.endswith("/"):
        raise VaectlError(f"{path!r} is a folder: name a file")
    if not os.access(folder if is_replaced(path) else target, os.W_OK):
        raise VaectlError(f"{path!r}: no permission to write there: choose another place")


def is_replaced(path: str) -> bool:
    """Whether writing to `path` replaces a file, which takes a writable folder; devices and pipes are written to."""
    return path not in STDOUT_NAMES and (os.path.isfile(path) or not os.path.exists(path))


def check_folder(path: str) -> None:
    """Fail before any work when the folder `path` can be neither written nor made.

    Raises:
        VaectlError: a file stands in its way, or it may not be written.
    """
    with told(repr(path)):
        place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise VaectlError(f"{path!r}: {place!r} is a file: name another folder")
    if not os.access(place, os.W_OK):
        raise VaectlError(f"{path!r}: no permission to write there: choose another place")


@contextmanager
def written(path: str, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends well, and nothing at all otherwise.

    "-" and the system's names for it are stdout. A symlink stays and its target is replaced; the mode of an existing file is
    kept; a device or a FIFO is written to. A `durable` file also survives a power cut from the moment the block ends.

    Raises:
        VaectlError: the disk is full, the place is not to be written, or stdout is closed.
    """
    if path in STDOUT_NAMES:
        with told("stdout"), open(1, "wb", closefd=False) as stream:
            yield stream
        return
    with told(repr(path)):
        if not is_replaced(path):
            with open(path, "wb") as stream:
                yield stream
            return
        with replacing(os.path.realpath(path), durable) as stream:
            yield stream


@contextmanager
def replacing(target: str, durable: bool) -> Iterator[BinaryIO]:
    """A temporary file beside `target` that takes its place when the block ends well and goes when it does not."""
    folder = os.path.dirname(target)
    with locks.temporary(folder) as (descriptor, temporary), open(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fchmod(descriptor, mode_for(target))
        if durable:
            os.fsync(descriptor)
        os.replace(temporary, target)  # while it is held, or it might be swept
        if durable:
            sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mode_for(target: str) -> int:
    """The mode a file has now, or the one a new file gets under the process's umask."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(os.stat(target).st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_line(line: str) -> None:
    """One line of text on stdout; names with undecodable bytes go out as they came in."""
    with written(STDOUT) as stream:
        stream.write(os.fsencode(line) + b"\n")


def stdout_is_terminal() -> bool:
    """Whether a person would see what goes to stdout."""
    return sys.stdout is not None and os.isatty(1)
