import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaectl.errors import VaectlError
from vaectl.io import arrays
from vaectl.io.files import Reader


def npy(array: NDArray[Any]) -> bytes:
    stream = BytesIO()
    np.save(stream, array, allow_pickle=array.dtype.hasobject)
    return stream.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text.encode()


def whole(data: bytes) -> NDArray[Any]:
    reader = Reader(BytesIO(data), "x")
    found = arrays.read_header(reader)
    result = np.concatenate(list(arrays.read_blocks(reader, found, found.shape)))
    assert reader.peek(1) == b""
    return result


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "|u1", "<i8", ">u2", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_number_in_every_order_is_read_in_blocks(dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(15).reshape(5, 3) % 2 + (0 if dtype == "|b1" else 3), dtype, order)
    found = whole(npy(array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array(["a"]), np.array([1j]), np.array(["2026-01-01"], "M8[D]"), np.zeros(1, "i4,f4")]
)
def test_items_that_are_no_numbers_are_refused_without_a_word_of_pickles(array: NDArray[Any]) -> None:
    with pytest.raises(VaectlError, match="numbers are expected") as caught:
        whole(npy(array))
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
        whole(data)


@pytest.mark.parametrize("shape", ["(1000000000000, 784)", "(3, 4)"])
@pytest.mark.parametrize("fortran", [True, False])
def test_bytes_that_do_not_come_are_not_allocated(shape: str, fortran: bool) -> None:
    data = header(f"{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': {shape}}}\n") + bytes(20)
    with pytest.raises(VaectlError, match="ends before"):
        whole(data)


def test_nan_and_infinity_are_counted_from_the_first_row_on() -> None:
    values = np.ones((4, 2))
    values[2, 1] = np.nan
    values[3, 0] = 1e300
    with pytest.raises(VaectlError, match=r"z: 2 values are NaN or infinite, the first at \[12, 1\] \(nan\)"):
        arrays.finite(values, "z", 10)
    np.testing.assert_array_equal(arrays.finite(np.ones((2, 2), np.int64), "z"), np.ones((2, 2), np.float32))


def archive(data: bytes) -> arrays.Archive:
    return arrays.Archive(Reader(BytesIO(data), "x"))


def test_an_archive_of_one_array_is_that_array() -> None:
    np.savez_compressed(stream := BytesIO(), z=np.eye(3))
    reader = archive(stream.getvalue()).only()
    found = arrays.read_header(reader)
    np.testing.assert_array_equal(np.concatenate(list(arrays.read_blocks(reader, found, found.shape))), np.eye(3))
    np.savez(stream := BytesIO(), a=np.eye(3), b=np.eye(2))
    with pytest.raises(VaectlError, match=r"holds 2 arrays \(a, b\)"):
        archive(stream.getvalue()).only()


def test_what_unpacks_to_far_more_than_it_is_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SAFE_TO_UNPACK", 1 << 20)
    np.savez_compressed(stream := BytesIO(), bomb=np.zeros(1 << 20), fine=np.zeros(1 << 16))
    opened = archive(stream.getvalue())
    assert opened.reader("fine").read(6) == b"\x93NUMPY"
    with pytest.raises(VaectlError, match="x:bomb would unpack to 8 MB from next to nothing"):
        opened.reader("bomb")


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_told_whatever_its_compression(kind: int) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(stream := BytesIO(), "w", kind) as whole:
        whole.writestr("z.npy", npy(rng.integers(0, 99, (50, 40))))
    data = bytearray(stream.getvalue())
    for place in range(40, len(data), 130):
        damaged = bytes(data[:place]) + bytes([data[place] ^ 0x5A]) + bytes(data[place + 1 :])
        try:
            reader = archive(damaged).only()
            found = arrays.read_header(reader)
            list(arrays.read_blocks(reader, found, found.shape))
            reader.read(1)
        except VaectlError:
            continue
        assert kind != zipfile.ZIP_STORED  # which is checked to the last byte


def test_a_header_of_ours_is_one_that_numpy_reads() -> None:
    stream = BytesIO()
    arrays.write_header(stream, 2, 3)
    stream.write(np.arange(6, dtype="<f4").tobytes())
    stream.seek(0)
    assert np.load(stream).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("ordered", [np.ascontiguousarray, np.asfortranarray])
def test_a_large_array_comes_in_small_blocks(ordered: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    array = ordered(np.arange(900_000, dtype=np.float32).reshape(3000, 300))
    reader = Reader(BytesIO(npy(array)), "x")
    found = arrays.read_header(reader)
    blocks = list(arrays.read_blocks(reader, found, found.shape))
    assert len(blocks) > 2 and max(block.nbytes for block in blocks) <= arrays.BLOCK_BYTES
    np.testing.assert_array_equal(np.concatenate(blocks), array)
