import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaectl.base.arrays import to_finite
from vaectl.base.errors import VaectlError
from vaectl.io import npy
from vaectl.io.files import PeekableReader


def npy_bytes(array: NDArray[Any]) -> bytes:
    stream = BytesIO()
    np.save(stream, array, allow_pickle=array.dtype.hasobject)
    return stream.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text.encode()


def read_all(data: bytes) -> NDArray[Any]:
    reader = PeekableReader(BytesIO(data), "x")
    found = npy.read_header(reader)
    result = np.concatenate(list(npy.read_blocks(reader, found, found.shape)))
    assert reader.peek(1) == b""
    return result


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "|u1", "<i8", ">u2", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_numeric_dtype_and_memory_order_is_read(dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(15).reshape(5, 3) % 2 + (0 if dtype == "|b1" else 3), dtype, order)
    found = read_all(npy_bytes(array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array(["a"]), np.array([1j]), np.array(["2026-01-01"], "M8[D]"), np.zeros(1, "i4,f4")]
)
def test_dtypes_that_are_not_numeric_are_refused_and_the_error_never_suggests_pickle(array: NDArray[Any]) -> None:
    with pytest.raises(VaectlError, match="expected numbers") as caught:
        read_all(npy_bytes(array))
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93NUMPY\x01",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),
        header("(" * 5000),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}\n"),
        header("{'descr': '<f4', 'fortran_order': False}\n"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}" + " " * 20000, (2, 0)),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x07\x00\x10\x00" + bytes(16),
    ],
)
def test_damaged_headers_are_refused(data: bytes) -> None:
    with pytest.raises(VaectlError, match="header"):
        read_all(data)


@pytest.mark.parametrize("shape", ["(1000000000000, 784)", "(3, 4)"])
@pytest.mark.parametrize("fortran", [True, False])
def test_memory_is_not_allocated_for_missing_data(shape: str, fortran: bool) -> None:
    data = header(f"{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': {shape}}}\n") + bytes(20)
    with pytest.raises(VaectlError, match="ends before"):
        read_all(data)


def test_nan_and_infinity_are_counted_and_the_first_is_located() -> None:
    values = np.ones((4, 2))
    values[2, 1] = np.nan
    values[3, 0] = 1e300
    with pytest.raises(VaectlError, match=r"z: 2 values are NaN or infinite, the first at \[12, 1\] \(nan\)"):
        to_finite(values, "z", 10)
    np.testing.assert_array_equal(to_finite(np.ones((2, 2), np.int64), "z"), np.ones((2, 2), np.float32))


def archive(data: bytes) -> npy.Archive:
    return npy.Archive(PeekableReader(BytesIO(data), "x"))


def test_only_opens_the_single_array_of_an_archive() -> None:
    np.savez_compressed(stream := BytesIO(), z=np.eye(3))
    reader = archive(stream.getvalue()).only()
    found = npy.read_header(reader)
    np.testing.assert_array_equal(np.concatenate(list(npy.read_blocks(reader, found, found.shape))), np.eye(3))
    np.savez(stream := BytesIO(), a=np.eye(3), b=np.eye(2))
    with pytest.raises(VaectlError, match=r"holds 2 arrays \('a', 'b'\)"):
        archive(stream.getvalue()).only()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "MIN_BOMB_BYTES", 1 << 20)
    np.savez_compressed(stream := BytesIO(), bomb=np.zeros(1 << 20), fine=np.zeros(1 << 16))
    bombed = archive(stream.getvalue())
    assert bombed.names == ["bomb", "fine"]
    assert bombed.open("fine").read(6) == b"\x93NUMPY"
    with pytest.raises(VaectlError, match=r"x:bomb looks like a zip bomb \(8 MB unpacked\)"):
        bombed.open("bomb")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_refused_whatever_its_compression(compression: int) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(stream := BytesIO(), "w", compression) as file:
        file.writestr("z.npy", npy_bytes(rng.integers(0, 99, (50, 40))))
    data = bytearray(stream.getvalue())
    for position in range(40, len(data), 130):
        damaged = data.copy()
        damaged[position] ^= 0x5A
        try:
            reader = archive(bytes(damaged)).only()
            found = npy.read_header(reader)
            list(npy.read_blocks(reader, found, found.shape))
            reader.read(1)
        except VaectlError:
            continue
        assert compression != zipfile.ZIP_STORED  # its checksum covers every byte


def test_numpy_reads_the_written_header() -> None:
    stream = BytesIO()
    npy.write_header(stream, 2, 3)
    stream.write(np.arange(6, dtype="<f4").tobytes())
    stream.seek(0)
    assert np.load(stream).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("ordered", [np.ascontiguousarray, np.asfortranarray])
def test_a_large_array_is_read_in_small_blocks(ordered: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    array = ordered(np.arange(900_000, dtype=np.float32).reshape(3000, 300))
    reader = PeekableReader(BytesIO(npy_bytes(array)), "x")
    found = npy.read_header(reader)
    blocks = list(npy.read_blocks(reader, found, found.shape))
    assert len(blocks) > 2 and max(block.nbytes for block in blocks) <= npy.BLOCK_BYTES
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def test_a_header_is_padded_with_spaces_only() -> None:
    """NumPy would look for a number of Python 2 in any other text, for a time that grows with the square of its length."""
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    padded, unreadable = text + b" " * 9000, text + b" " * 9000 + b"("
    for header, message in ((padded, None), (unreadable, "unsupported NPY header")):
        data = b"\x93NUMPY\2\0" + len(header).to_bytes(4, "little") + header
        if message:
            with pytest.raises(VaectlError, match=message):
                npy.read_header(PeekableReader(BytesIO(data), "x"))
        else:
            assert npy.read_header(PeekableReader(BytesIO(data), "x")).shape == (2,)
