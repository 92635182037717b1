"""NPY and NPZ bytes to arrays and back; nothing is unpickled, and no more is allocated than arrives."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from lzma import LZMAError
from math import prod
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaectl.base.errors import VaectlError
from vaectl.base.text import list_names
from vaectl.io.files import PeekableReader

# With its padding, and without: NumPy takes time by the square of what it cannot parse.
MAX_HEADER_BYTES, MAX_HEADER_TEXT = 10_000, 1000
# Above this size, so high a compression ratio means a zip bomb (about 1000): images and latents compress far less.
MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO = 1 << 28, 200
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """The header of an NPY file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


def read_header(reader: PeekableReader, *, numeric: bool = True) -> Header:
    """Read the header of an NPY file.

    Raises:
        VaectlError: the header is damaged, or the dtype is not numeric where it must be.
    """
    version = tuple(reader.read(npy.MAGIC_LEN)[-2:])
    length = int.from_bytes(reader.read(2 if version == (1, 0) else 4), "little")
    text = reader.read(min(length, MAX_HEADER_BYTES)).strip(b" \n")
    if version not in ((1, 0), (2, 0)) or length > MAX_HEADER_BYTES or len(text) > MAX_HEADER_TEXT:
        raise VaectlError(f"{reader.name} has an unsupported NPY header: write it with numpy.save")
    try:
        stream = BytesIO(len(text).to_bytes(4, "little") + text)
        shape, fortran_order, dtype = npy.read_array_header_2_0(cast(IO[bytes], stream), max_header_size=MAX_HEADER_TEXT)
    except Exception as error:  # NumPy parses it as a Python literal, which may raise anything
        raise VaectlError(f"{reader.name} has a damaged NPY header: save it again") from error
    if numeric and dtype.kind not in "biuf":
        raise VaectlError(f"{reader.name} has dtype {dtype.name}: expected numbers")
    if any(size < 0 for size in shape):
        raise VaectlError(f"{reader.name} has a negative size in its NPY header: save it again")
    return Header(shape, dtype, fortran_order)


def read_blocks(reader: PeekableReader, header: Header, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Read the array after `header`, reshaped to `shape`, in blocks of about 1 MB along the first axis.

    Raises:
        VaectlError: the data are shorter than the header says.
    """
    rows = max(1, BLOCK_BYTES // max(1, prod(shape[1:]) * header.dtype.itemsize))
    if header.fortran_order:  # no row is complete before the last byte
        array = read_items(reader, header, prod(shape)).reshape(header.shape, order="F").reshape(shape)
        yield from (array[start : start + rows] for start in range(0, len(array), rows))
        return
    for start in range(0, shape[0], rows):
        block = (min(rows, shape[0] - start), *shape[1:])
        yield read_items(reader, header, prod(block)).reshape(block)


def read_items(reader: PeekableReader, header: Header, count: int) -> NDArray[Any]:
    """Read the next `count` items as a flat array in native byte order."""
    size = count * header.dtype.itemsize
    data = reader.read(size)
    if len(data) < size:
        raise VaectlError(f"{reader.name} ends before its array of {header.shape} is complete: save it again")
    return np.frombuffer(bytearray(data), header.dtype).astype(header.dtype.newbyteorder("="), copy=False)


class Archive:
    """The arrays of an NPZ file by name, read on demand; nothing is extracted to disk."""

    def __init__(self, reader: PeekableReader) -> None:
        """Open the rest of `reader`. A pipe is spooled to disk, because the index of a ZIP file is at its end.

        Raises:
            VaectlError: the archive is damaged.
        """
        self.name = reader.name
        with translate_archive_errors(self.name):
            self.zip = zipfile.ZipFile(reader.seekable())
        self.members = {member.filename.removesuffix(".npy"): member for member in self.zip.infolist()}

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self.members)

    def open(self, name: str) -> PeekableReader:
        """Open the NPY file of one array.

        Raises:
            VaectlError: it is damaged, or a zip bomb.
        """
        member, label = self.members[name], f"{self.name}:{name}"
        if member.file_size > max(MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO * member.compress_size):
            raise VaectlError(f"{label} looks like a zip bomb ({member.file_size >> 20} MB unpacked): save it again")
        with translate_archive_errors(label):
            return PeekableReader(cast(BinaryIO, Member(self.zip.open(member), label)), label)

    def only(self) -> PeekableReader:
        """Open the single array; a VaectlError if there is not exactly one."""
        if len(self.members) != 1:
            names = list_names(self.names)
            raise VaectlError(f"{self.name} holds {len(self.members):,} arrays ({names}): save the one you want with numpy.save")
        return self.open(*self.members)


@dataclass(frozen=True)
class Member:
    """A file in an archive, as a stream."""

    stream: IO[bytes]
    name: str

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        with translate_archive_errors(self.name):
            return self.stream.read(size)


@contextmanager
def translate_archive_errors(name: str) -> Iterator[None]:
    """Turn whatever zipfile raises on damaged data into a VaectlError."""
    try:
        yield
    except MemoryError as error:  # LZMA allocates a dictionary of the size that the file claims
        raise VaectlError(f"not enough memory to read {name}: save it again with numpy.savez") from error
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, LZMAError) as error:
        raise VaectlError(f"{name} is a damaged NPZ archive: save it again with numpy.savez") from error


def write_header(stream: BinaryIO, rows: int, width: int) -> None:
    """Write the NPY header of a float32 array (rows, width)."""
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
