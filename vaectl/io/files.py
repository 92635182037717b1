"""Byte streams: "-" for stdin and stdout, formats recognized by their first bytes, and atomic writes."""

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import BinaryIO

from vaectl.base.errors import UsageError, VaectlError
from vaectl.images.formats import sniff_image_format
from vaectl.io import locks, remote

STDIN = STDOUT = "-"
STDIN_NAME = "stdin"
STDOUT_NAMES = (STDOUT, "/dev/stdout", "/dev/fd/1")

# Of what is no image.
SIGNATURES = {
    b"\x93NUMPY": "NPY",
    b"PK\x03\x04": "NPZ",
    b"PAR1": "PARQUET",
    # With and without the byte order mark that Excel writes.
    **{mark + start: "CSV" for mark in (b"", b"\xef\xbb\xbf") for start in (b"name,", b'"name",', b"z0", b'"z0"')},
}
MAX_SIGNATURE_BYTES = 12
# The header of a table that begins with other columns.
LATENT_COLUMN, MAX_TABLE_HEADER_BYTES = re.compile(rb'[,"]z0\b'), 1024
MAX_PIPE_BYTES = 1 << 32  # spooled to disk
CHUNK_BYTES = 1 << 20

ADVICE = {
    errno.ENOENT: "check the name",
    errno.EEXIST: "move it away, or write elsewhere",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "check the name",
    errno.EACCES: "check its permissions",
    errno.EBADF: "it is closed",
    errno.ENOSPC: "free some space, or write elsewhere",
}


class PeekableReader:
    """A binary stream, seekable or not, that can be peeked at.

    `name` identifies it in errors: the quoted path, or stdin. If `is_stream`, several images may follow one another.
    """

    def __init__(self, stream: BinaryIO, name: str, *, is_stream: bool = False) -> None:
        self.stream = stream
        self.name = name
        self.is_stream = is_stream
        self.buffer = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes without consuming them; fewer only at the end."""
        while len(self.buffer) < size and (data := self.read_stream(size - len(self.buffer))):
            self.buffer += data
        return self.buffer[:size]

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end. Allocates as data arrive, whatever `size` is."""
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        if len(data) == size:
            return data
        found = BytesIO(data)  # shares its memory, no copy
        found.seek(0, os.SEEK_END)
        while (missing := size - found.tell()) and (data := self.read_stream(min(missing, CHUNK_BYTES))):
            found.write(data)
        return found.getvalue()

    def read_stream(self, size: int) -> bytes:
        """Read at most `size` bytes, bypassing the buffer."""
        with translate_errors(self.name):  # the caller may have left the block that opened the stream
            return self.stream.read(size)

    def seekable(self) -> BinaryIO:
        """The rest as a seekable stream, and leave this reader empty. A pipe is spooled to disk."""
        rest = self.stream
        if rest.seekable():
            rest.seek(-len(self.buffer), os.SEEK_CUR)
        else:
            with translate_errors("a temporary file"):
                rest = tempfile.TemporaryFile()  # noqa: SIM115 - it is read after this block
                while (data := self.read(CHUNK_BYTES)) and rest.tell() < MAX_PIPE_BYTES:
                    rest.write(data)
        self.skip_rest()
        return rest

    def skip_rest(self) -> None:
        """Discard everything that has not been read."""
        self.stream, self.buffer = BytesIO(), b""

    def unread(self, data: bytes) -> None:
        """Push back `data`, which was just read."""
        self.buffer = data + self.buffer


def sniff_format(reader: PeekableReader) -> str:
    """What comes next, by its first bytes: Pillow's name of an image, a value of SIGNATURES, "empty" or "unknown"."""
    head = reader.peek(MAX_SIGNATURE_BYTES)
    if found := sniff_image_format(head):
        return found
    for signature, format in SIGNATURES.items():
        if head.startswith(signature):
            return format
    if LATENT_COLUMN.search(reader.peek(MAX_TABLE_HEADER_BYTES).partition(b"\n")[0]):
        return "CSV"
    return "unknown" if head else "empty"


@contextmanager
def open_reader(path: str) -> Iterator[PeekableReader]:
    """Open a file or a URL for reading, or stdin for "-".

    Raises:
        VaectlError: the file is missing, a folder, or unreadable.
    """
    if remote.is_url(path):
        with remote.open_reading(path) as file:
            yield PeekableReader(file, repr(path), is_stream=not file.seekable())
        return
    is_stdin = path == STDIN
    name = STDIN_NAME if is_stdin else repr(path)
    with translate_errors(name), open(0 if is_stdin else path, "rb", closefd=not is_stdin) as stream:
        yield PeekableReader(stream, name, is_stream=is_stdin or not stream.seekable())


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Turn an OSError into a VaectlError that begins with `name`; a broken pipe passes through."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise VaectlError(f"{name}: {what}", ADVICE.get(error.errno or 0, "")) from error


def stdin_or_usage_error(wanted: str) -> str:
    """The name of stdin, or raise a UsageError asking for `wanted` if stdin is a terminal."""
    if os.isatty(0):
        raise UsageError(f"nothing to read: give {wanted}, or pipe it in")
    return STDIN


def check_writable(path: str) -> None:
    """Check, before any work, that the file `path` can be written.

    Raises:
        VaectlError: it is a folder, or its folder is missing or read-only.
    """
    if path in STDOUT_NAMES:
        return
    if remote.is_url(path):
        remote.check_writable(path)
        return
    with translate_errors(repr(path)):
        target = os.path.realpath(path) if is_regular_target(path) else os.path.abspath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise VaectlError(f"{path!r}: the folder {folder!r} does not exist: create it first")
    if os.path.isdir(target) or path.endswith("/"):
        raise VaectlError(f"{path!r} is a folder: give a file name")
    if not os.access(folder if is_regular_target(path) else target, os.W_OK):
        raise VaectlError(f"{path!r}: no permission to write there: write elsewhere")


def is_regular_target(path: str) -> bool:
    """Whether `path` is, or will be, a regular file. It is replaced atomically; a device or a FIFO is written in place."""
    return path not in STDOUT_NAMES and not remote.is_url(path) and (os.path.isfile(path) or not os.path.exists(path))


def check_folder_writable(path: str) -> None:
    """Check, before any work, that the folder `path` can be written or created.

    Raises:
        VaectlError: a file is in the way, or the permission is missing.
    """
    if remote.is_url(path):
        remote.check_writable(path)
        return
    with translate_errors(repr(path)):
        existing = os.path.abspath(path)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise VaectlError(f"{path!r}: {existing!r} is a file: give another folder")
    if not os.access(existing, os.W_OK):
        raise VaectlError(f"{path!r}: no permission to write there: write elsewhere")


@contextmanager
def open_output(path: str, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open the file `path` for writing: it appears complete when the block succeeds, and stays as it was otherwise.

    "-", /dev/stdout and /dev/fd/1 are stdout. A symlink stays and its target is replaced; an existing file keeps its mode;
    a device or a FIFO is written in place; a URL is uploaded at the end. A `durable` file survives a power failure once the block
    has ended.

    Raises:
        VaectlError: the disk is full, the path cannot be written, or stdout is closed.
    """
    if path in STDOUT_NAMES:
        with translate_errors("stdout"), open(1, "wb", closefd=False) as stream:
            yield stream
        return
    if remote.is_url(path):
        with remote.open_writing(path) as stream:
            yield stream
        return
    with translate_errors(repr(path)):
        if is_regular_target(path):
            with replace_file(os.path.realpath(path), durable) as stream:
                yield stream
        else:
            with open(path, "wb") as stream:
                yield stream


@contextmanager
def replace_file(target: str, durable: bool) -> Iterator[BinaryIO]:
    """Write a temporary file next to `target`, and rename it to `target` when the block succeeds."""
    folder = os.path.dirname(target)
    with locks.temporary_file(folder) as (descriptor, temporary), open(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fchmod(descriptor, target_mode(target))
        if durable:
            os.fsync(descriptor)
        os.replace(temporary, target)  # while locked, or another process might remove it as stale
        if durable:
            sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Make a rename in `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def target_mode(target: str) -> int:
    """The mode of an existing file, or the one that the umask gives to a new file."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(os.stat(target).st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_line(line: str) -> None:
    """Write a line of text to stdout; undecodable bytes of file names are preserved."""
    with open_output(STDOUT) as stream:
        stream.write(os.fsencode(line) + b"\n")


def stdout_is_terminal() -> bool:
    """Whether stdout is open and a terminal."""
    return sys.stdout is not None and os.isatty(1)
