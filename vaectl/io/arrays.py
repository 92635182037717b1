"""NPY and NPZ bytes to arrays and back; nothing is unpickled, and nothing is allocated before its bytes have come."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaectl.errors import VaectlError
from vaectl.io.files import Reader

LONGEST_HEADER = 10_000
LARGEST_ARCHIVE = 1 << 32
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


def read_archive(reader: Reader) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file by name.

    Raises:
        VaectlError: the archive or a member is damaged or no array of numbers.
    """
    arrays = {}
    try:
        # The index of an archive stands at its end, so that the whole must be at hand.
        with zipfile.ZipFile(BytesIO(reader.read(LARGEST_ARCHIVE))) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    inner = Reader(cast(Any, stream), f"{reader.name}:{member}")
                    header = read_header(inner)
                    items = read_items(inner, header, prod(header.shape))
                    arrays[member.removesuffix(".npy")] = items.reshape(header.shape, order="F" if header.fortran else "C")
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise VaectlError(f"{reader.name}: a damaged NPZ archive: write it again with numpy.savez") from error
    return arrays


def only_array(reader: Reader) -> NDArray[Any]:
    """The one array of an NPZ file.

    Raises:
        VaectlError: a damaged archive, or one of several arrays.
    """
    found = read_archive(reader)
    if len(found) != 1:
        raise VaectlError(f"{reader.name} holds {len(found)} arrays ({', '.join(found)}): save the one you want with numpy.save")
    return next(iter(found.values()))


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
