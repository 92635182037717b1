import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, write_png

import vaectl

Call = Callable[..., Result]
Fails = Callable[..., str]


def npy(array: NDArray[Any], **options: Any) -> bytes:
    np.save(stream := io.BytesIO(), array, **options)
    return stream.getvalue()


def header(text: str, length: int | None = None) -> bytes:
    data = text.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + (len(data) if length is None else length).to_bytes(2, "little") + data


def array_header(shape: str, dtype: str = "<f4", fortran_order: bool = False) -> bytes:
    return header(f"{{'descr': '{dtype}', 'fortran_order': {fortran_order}, 'shape': {shape}}}\n")


@pytest.fixture
def fails_on(fails: Fails, tiny: Path) -> Fails:
    """Calls a command, which must fail, with data on stdin."""

    def call(command: str, data: bytes, *words: str) -> str:
        return fails(command, input=data, words=words, VAECTL_CHECKPOINT=tiny.name)

    return call


def test_an_error_says_what_an_input_is_if_it_is_neither_an_image_nor_latents(
    fails_on: Fails, fails: Fails, tiny: Path, tmp_path: Path
) -> None:
    png = write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8)).read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    for command in ("encode", "decode", "interpolate"):
        fails_on(command, b"", "stdin is empty")
        fails_on(command, b"hello", "stdin is neither an image nor an array")
        for name, words in (("text", "'text' is neither an image"), ("empty", "'empty' is empty")):
            fails(command, name, words=(words,), VAECTL_CHECKPOINT=tiny.name)
    fails_on("decode", png, "stdin is a PNG file", "run vaectl encode on it first")
    fails_on("encode", npy(np.zeros((3, 7))), "stdin is an array of shape (3, 7)", "(N, 2, 2, 1), channels last, are expected")


def test_a_truncated_array_or_one_with_trailing_bytes_is_refused(fails_on: Fails) -> None:
    complete = npy(np.ones((3, 1), np.float32))
    for length in [*range(1, 128, 9), 128, 129, len(complete) - 1]:
        fails_on("decode", complete[:length], "stdin")
    for tail in (b"\0", b"garbage", complete[:5], complete[:-1]):
        fails_on("decode", complete + tail, "stdin")


@pytest.mark.parametrize("name", ["data.npy", "data.npz", "-"])
def test_what_follows_an_array_to_train_on_is_read_or_refused(name: str, fails: Fails, run: Call, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), np.uint8)

    def write(data: bytes) -> bytes:
        data = archive(**{"x_train.npy": data}) if name == "data.npz" else data
        if name != "-":
            (tmp_path / name).write_bytes(data)
        return data

    train = ("train", "ae", "--data", name, "--epochs", 1, "-q", "-o", "m.safetensors")
    refused = [(npy(images[:, :2]), "resize them to the same size"), (npy(images)[:-1], "is complete")]
    refused += [(tail, "has other data after its array") for tail in (b"\0", b"garbage", npy(images)[:5], b"PK\x03\x04")]
    for tail, words in refused:
        fails(*train, input=write(npy(images) + tail), words=(words,))
    run(*train, input=write(npy(images[:20]) + npy(images[20:])))
    data = vaectl.load(tmp_path / "m.safetensors").card.data
    assert data["train"] + data["test"] == 60


@pytest.mark.parametrize(
    "data",
    [
        array_header("(1000000000000, 1)"),
        array_header("(1000000000000,)"),
        array_header("(4611686018427387904, 1)"),
        array_header("(2, 1000000000000)"),
        array_header("(1000000000000, 1)", fortran_order=True),
        array_header("(-1, 1)"),
        array_header("(-3, -1)"),
        array_header("(3, 1)") + bytes(3),
        array_header("(99999999999999999999999999, 1)"),
        array_header("(" * 3000 + ")" * 3000),
        array_header("[" * 3000),
        array_header("((((1))))"),
        array_header("(1e3, 1)"),
        array_header("(True, 1)"),
        header("{}"),
        header("__import__('os').system('touch canary')"),
        header("x" * 60_000),
        header("{'descr': '<f4'", 60_000),
        b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(99),
        b"\x93NUMPY\x09\x00" + bytes(99),
    ],
)
def test_an_array_header_that_promises_too_much_is_refused_before_memory_is_allocated(data: bytes, fails_on: Fails) -> None:
    fails_on("decode", data, "stdin")
    fails_on("encode", data, "stdin")


def test_an_array_header_of_hundreds_of_megabytes_is_refused_without_reading_it(
    fails: Fails, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("large") / "z.npy"
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + (400 << 20).to_bytes(4, "little"))
        stream.truncate(500 << 20)
    fails("decode", path, "-c", tiny, words=("has an unsupported NPY header",), memory=100 << 20)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}], object),
        np.array([("a", 1.0)], [("name", "U4"), ("z", "f4")]),
        np.array([["text"]]),
        np.array([[b"text"]]),
        np.array([["2020-01-01"]], "datetime64[D]"),
        np.array([[5]], "timedelta64[s]"),
        np.array([[1 + 2j]]),
        np.zeros((1, 1), "V8"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_that_is_not_numeric_is_refused_without_suggesting_pickle(array: NDArray[Any], fails_on: Fails) -> None:
    for command in ("decode", "encode", "interpolate"):
        message = fails_on(command, npy(array, allow_pickle=True), "stdin has dtype", "expected numbers")
        assert "pickle" not in message


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i2", ">i8", "u1", "i1", "?", "<u4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_dtype_and_memory_order_decode_alike(dtype: str, order: Any, run: Call, tiny: Path) -> None:
    z = np.array([[0], [1], [1], [0]], np.float32)
    native, other = (run("decode", "-c", tiny, input=npy(x)) for x in (z, np.asarray(z.astype(dtype), order=order)))
    assert native.stdout == other.stdout and not other.stderr


def test_an_array_written_by_python_2_is_read_without_a_warning(run: Call, tiny: Path) -> None:
    result = run("decode", "-c", tiny, input=array_header("(2L, 1L)") + bytes(8))
    assert result.stdout.startswith(b"\x89PNG") and not result.stderr


def test_values_that_are_nan_or_out_of_range_are_counted_and_located(fails_on: Fails) -> None:
    z = np.zeros((5, 1))
    z[3] = np.nan
    z[4] = np.inf
    fails_on("decode", npy(z), "2 values are NaN or infinite", "[3, 0]", "nan")
    fails_on("decode", npy(np.array([[1.0], [1e300]])), "1 values are NaN or infinite", "[1, 0]", "inf")
    fails_on("encode", npy(np.full((1, 2, 2), np.nan)), "4 pixels are not in [0, 1]", "[0, 0, 0, 0]")
    fails_on("encode", npy(np.full((1, 2, 2), 255.5)), "4 pixels are not in [0, 1]", "[0, 0, 0, 0]")


@pytest.mark.parametrize("shape", [(3, 2), (0, 1), (0,), (), (2, 2, 1), (1, 1, 1, 1), (3, 0)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...], fails_on: Fails) -> None:
    fails_on(
        "decode",
        npy(np.zeros(shape)),
        "stdin is empty: it contains no latents" if shape == (0, 1) else f"stdin is an array of shape {shape}",
    )


def test_latents_of_no_dimensions_are_refused(fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((3, 0), np.float32))
    fails("interpolate", "z.npy", words=("latents have at least one dimension",))


def test_a_vector_of_the_latent_dimension_is_one_latent(run: Call, tiny: Path) -> None:
    one, two = (run("decode", "-c", tiny, input=npy(np.zeros(shape))).stdout for shape in ((1,), (1, 1)))
    assert one == two


def archive(**members: bytes) -> bytes:
    """An NPZ archive of files of any names and contents."""
    with zipfile.ZipFile(stream := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def test_an_archive_that_is_not_a_data_set_is_refused(fails: Fails, fails_on: Fails, tmp_path: Path) -> None:
    images = npy(np.zeros((8, 4, 4), np.uint8))
    bomb = array_header("(300, 1000, 1000)", "|u1") + bytes(300_000_000)
    archives = {
        "holds no array 'x_train', only 'images'": archive(images=images),
        "resize them to the same size": archive(x_train=images, x_test=npy(np.zeros((2, 4, 5), np.uint8))),
        "looks like a zip bomb": archive(**{"x_train.npy": bomb}),
        "is an array of": archive(x_train=npy(np.zeros((8, 4)))),
        "only '../../x_train', '/x_train'": archive(**{"../../x_train.npy": images, "/x_train.npy": images}),
        "is a damaged NPZ archive": archive(x_train=images)[:-30],
        "NPY header": archive(x_train=b"hello"),
        "is not a data set": archive(),
    }
    for words, data in archives.items():
        (tmp_path / "data.npz").write_bytes(data)
        fails("train", "vae", "--data", "data.npz", words=("data.npz", words))
        if words != "is an array of":  # rows of four values are images of 2 x 2
            fails_on("encode", data, "stdin")
    assert not (tmp_path.parent / "x_train.npy").exists()


def test_an_archive_whose_array_has_trailing_bytes_is_refused(fails_on: Fails) -> None:
    for tail in (b"\0", npy(np.zeros((1, 1)))):
        fails_on("decode", archive(**{"z.npy": npy(np.zeros((1, 1))) + tail}), "stdin:z has other data after its array")


def test_an_archive_of_two_arrays_is_refused(fails_on: Fails) -> None:
    fails_on("decode", archive(a=npy(np.zeros((1, 1))), b=npy(np.zeros((1, 1)))), "stdin holds 2 arrays ('a', 'b')")
