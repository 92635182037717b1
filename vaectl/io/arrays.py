"""NPY and NPZ bytes to arrays and back; nothing is unpickled, and nothing is allocated before its bytes have come."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from math import prod
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaectl.errors import VaectlError
from vaectl.io.files import Reader

LONGEST_HEADER = 10_000
# Of what is larger, so many bytes may come from one: pictures and latents shrink by far less, and bombs grow by a thousand.
SAFE_TO_UNPACK, MOST_UNPACKED = 1 << 28, 200
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """What an NPY file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def read_header(reader: Reader) -> Header:
    """The header of the NPY that comes next in `reader`.

    Raises:
        VaectlError: a damaged header, or items that are not numbers.
    """
    start = reader.peek(npy.MAGIC_LEN + 4)
    version = tuple(start[6:8])
    length = int.from_bytes(start[8:10] if version == (1, 0) else start[8:12], "little")
    if version not in ((1, 0), (2, 0)) or length > LONGEST_HEADER:
        raise VaectlError(f"{reader.name}: no NPY header that can be read: write it with numpy.save")
    try:
        npy.read_magic(cast(IO[bytes], reader))
        parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = parse(cast(IO[bytes], reader), max_header_size=LONGEST_HEADER)
    except Exception as error:  # NumPy parses it as Python, and raises whatever that meets
        raise VaectlError(f"{reader.name}: a damaged NPY header: write the file again") from error
    if dtype.kind not in "biuf":
        raise VaectlError(f"{reader.name} holds items of type {dtype.name}: numbers are expected")
    if any(size < 0 for size in shape):
        raise VaectlError(f"{reader.name}: a negative size in the NPY header: write the file again")
    return Header(shape, dtype, fortran)


def read_blocks(reader: Reader, header: Header, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """The array behind `header`, seen as `shape`, so many rows of its first axis at a time that memory stays small.

    Raises:
        VaectlError: fewer bytes came than the header promises.
    """
    rows = max(1, BLOCK_BYTES // max(1, prod(shape[1:]) * header.dtype.itemsize))
    if header.fortran:
        # Its first axis runs fastest, so that no row is whole before the last byte.
        whole = read_items(reader, header, prod(shape)).reshape(header.shape, order="F").reshape(shape)
        yield from (whole[start : start + rows] for start in range(0, len(whole), rows))
        return
    for start in range(0, shape[0], rows):
        block = (min(rows, shape[0] - start), *shape[1:])
        yield read_items(reader, header, prod(block)).reshape(block)


def read_items(reader: Reader, header: Header, count: int) -> NDArray[Any]:
    """The next `count` items as a flat array in the machine's own byte order."""
    payload = reader.read(count * header.dtype.itemsize)
    if len(payload) < count * header.dtype.itemsize:
        raise VaectlError(f"{reader.name} ends before its array of {header.shape} is complete: write it again")
    return np.frombuffer(bytearray(payload), header.dtype).astype(header.dtype.newbyteorder("="), copy=False)


class Archive:
    """The arrays in an NPZ file by name, each read when it is asked for; nothing is ever extracted."""

    def __init__(self, reader: Reader) -> None:
        """Open what comes next in `reader`, to its end: a pipe waits on disk, for the index of an archive stands at its end.

        Raises:
            VaectlError: no archive that can be read.
        """
        self.name = reader.name
        with archive_told(self.name):
            self.zip = zipfile.ZipFile(reader.seekable())
        self.members = {member.filename.removesuffix(".npy"): member for member in self.zip.infolist()}

    def reader(self, name: str) -> Reader:
        """What reads the NPY that one array is.

        Raises:
            VaectlError: it unpacks to far more than it is, as no real data do; or it is damaged.
        """
        member, told = self.members[name], f"{self.name}:{name}"
        if member.file_size > max(SAFE_TO_UNPACK, MOST_UNPACKED * member.compress_size):
            raise VaectlError(f"{told} would unpack to {member.file_size >> 20} MB from next to nothing: save it anew")
        with archive_told(told):
            return Reader(cast(BinaryIO, Member(self.zip.open(member), told)), told)

    def only(self) -> Reader:
        """What reads the one array; a VaectlError where there are several or none."""
        if len(self.members) != 1:
            names = f"{len(self.members)} arrays ({', '.join(self.members)})"
            raise VaectlError(f"{self.name} holds {names}: save the one you want with numpy.save")
        return self.reader(next(iter(self.members)))


@dataclass(frozen=True)
class Member:
    """One file in an archive as a stream."""

    stream: IO[bytes]
    name: str

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        with archive_told(self.name):
            return self.stream.read(size)


@contextmanager
def archive_told(name: str) -> Iterator[None]:
    """Turns all that a damaged archive raises into an error of ours."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, LZMAError) as error:
        raise VaectlError(f"{name}: a damaged NPZ archive: write it again with numpy.savez") from error


def finite(array: NDArray[Any], name: str, start: int = 0) -> NDArray[np.float32]:
    """The array as float32; `start` is the row at which it begins in `name`.

    Raises:
        VaectlError: NaN, infinity, or a value that float32 does not hold.
    """
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    refuse(~np.isfinite(values), values, name, start, "values are NaN or infinite", "check how it was made")
    return values


def refuse(wrong: NDArray[np.bool_], array: NDArray[Any], name: str, start: int, what: str, advice: str) -> None:
    """Raise a VaectlError that counts the wrong items and names the first, if there are any."""
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        place = [start + first[0], *first[1:]]
        raise VaectlError(f"{name}: {int(wrong.sum())} {what}, the first at {place} ({array[first]}): {advice}")


def write_header(stream: BinaryIO, rows: int, width: int) -> None:
    """The NPY header of a float32 array (rows, width)."""
    npy.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
