import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_png

Call = Callable[..., Result]
Fails = Callable[..., str]


def npy(array: NDArray[Any], **options: Any) -> bytes:
    np.save(stream := io.BytesIO(), array, **options)
    return stream.getvalue()


def header(text: str, length: int | None = None) -> bytes:
    data = text.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + (len(data) if length is None else length).to_bytes(2, "little") + data


def described(shape: str, kind: str = "<f4", fortran: bool = False) -> bytes:
    return header(f"{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}}}\n")


@pytest.fixture(autouse=True)
def here(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAECTL_CHECKPOINT", tiny.name)


@pytest.fixture
def fed(fails: Fails) -> Fails:
    """Feeds a verb that must fail, with the tiny checkpoint."""

    def call(verb: str, data: bytes, *words: str, code: int = 1) -> str:
        return fails(verb, input=data, words=words, code=code, VAECTL_CHECKPOINT="tiny.safetensors")

    return call


@pytest.mark.fault(9)
def test_what_is_no_latent_or_no_picture_is_called_what_it_is(fed: Fails, fails: Fails, tmp_path: Path) -> None:
    png = write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8)).read_bytes()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    for verb in ("encode", "decode", "interpolate"):
        fed(verb, b"", "stdin is empty")
        fed(verb, b"hello", "stdin is neither a picture nor an array")
        for name, words in (("text", "'text' is neither"), ("empty", "'empty' is empty")):
            fails(verb, name, words=(words,), VAECTL_CHECKPOINT="tiny.safetensors")
    fed("decode", png, "stdin is a PNG file", "run vaectl encode on it first")
    fed("encode", npy(np.zeros((3, 7))), "stdin", "(3, 7)", "2 x 2")


@pytest.mark.fault(10)
def test_an_array_that_is_cut_or_goes_on_is_refused(fed: Fails) -> None:
    whole = npy(np.ones((3, 1), np.float32))
    for length in [*range(1, 128, 9), 128, 129, len(whole) - 1]:
        fed("decode", whole[:length], "stdin")
    for tail in (b"\0", b"garbage", whole[:5], whole[:-1]):
        fed("decode", whole + tail, "stdin")


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "data",
    [
        described("(1000000000000, 1)"),
        described("(1000000000000,)"),
        described("(4611686018427387904, 1)"),
        described("(2, 1000000000000)"),
        described("(1000000000000, 1)", fortran=True),
        described("(-1, 1)"),
        described("(-3, -1)"),
        described("(3, 1)") + bytes(3),
        described("(99999999999999999999999999, 1)"),
        described("(" * 3000 + ")" * 3000),
        described("[" * 3000),
        described("((((1))))"),
        described("(1e3, 1)"),
        described("(True, 1)"),
        header("{}"),
        header("__import__('os').system('touch canary')"),
        header("x" * 60_000),
        header("{'descr': '<f4'", 60_000),
        b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(99),
        b"\x93NUMPY\x09\x00" + bytes(99),
    ],
)
def test_a_header_that_promises_too_much_is_refused_before_memory_is_asked_for(data: bytes, fed: Fails) -> None:
    fed("decode", data, "stdin")
    fed("encode", data, "stdin")


@pytest.mark.fault(11)
def test_a_header_that_is_as_long_as_it_says_is_not_read_to_its_end(
    fails: Fails, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("large") / "z.npy"
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + (400 << 20).to_bytes(4, "little"))
        stream.truncate(500 << 20)
    fails("decode", path, "-c", "tiny.safetensors", words=("no NPY header that can be read",), memory=100 << 20)


@pytest.mark.fault(12)
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
def test_an_array_of_other_things_is_refused_without_a_word_of_pickles(array: NDArray[Any], fed: Fails) -> None:
    for verb in ("decode", "encode", "interpolate"):
        text = fed(verb, npy(array, allow_pickle=True), "stdin", "numbers are expected")
        assert "pickle" not in text


@pytest.mark.fault(13)
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i2", ">i8", "u1", "i1", "?", "<u4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order_decode_alike(kind: str, order: Any, run: Call, tmp_path: Path) -> None:
    z = np.array([[0], [1], [1], [0]], np.float32)
    native, other = (run("decode", "-c", "tiny.safetensors", input=npy(x)) for x in (z, np.asarray(z.astype(kind), order=order)))
    assert native.stdout == other.stdout and not other.stderr


@pytest.mark.fault(13)
def test_an_array_that_python_2_wrote_is_read_without_a_word(run: Call) -> None:
    result = run("decode", "-c", "tiny.safetensors", input=described("(2L, 1L)") + bytes(8))
    assert result.stdout.startswith(b"\x89PNG") and not result.stderr


@pytest.mark.fault(14)
def test_what_is_no_number_is_counted_and_placed(fed: Fails) -> None:
    z = np.zeros((5, 1))
    z[3] = np.nan
    z[4] = np.inf
    fed("decode", npy(z), "2 values are NaN or infinite", "[3, 0]", "nan")
    fed("decode", npy(np.array([[1.0], [1e300]])), "1 values are NaN or infinite", "[1, 0]", "inf")
    fed("encode", npy(np.full((1, 2, 2), np.nan)), "4 ", "[0, 0, 0, 0]")
    fed("encode", npy(np.full((1, 2, 2), 255.5)), "4 ", "[0, 0, 0, 0]")


@pytest.mark.fault(15)
@pytest.mark.parametrize("shape", [(3, 2), (0, 1), (0,), (), (2, 2, 1), (1, 1, 1, 1), (3, 0)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...], fed: Fails) -> None:
    fed("decode", npy(np.zeros(shape)), "empty" if shape == (0, 1) else "stdin")


@pytest.mark.fault(15)
def test_a_single_row_of_the_right_width_is_one_latent(run: Call, tiny: Path) -> None:
    one, two = (run("decode", "-c", tiny, input=npy(np.zeros(shape))).stdout for shape in ((1,), (1, 1)))
    assert one == two


def archive(**members: bytes) -> bytes:
    """An NPZ of files of any names and contents."""
    with zipfile.ZipFile(stream := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as whole:
        for name, data in members.items():
            whole.writestr(name, data)
    return stream.getvalue()


@pytest.mark.fault(16)
def test_archives_that_are_no_data_are_refused(fails: Fails, fed: Fails, tmp_path: Path) -> None:
    pictures = npy(np.zeros((8, 4, 4), np.uint8))
    bomb = described("(300, 1000, 1000)", "|u1") + bytes(300_000_000)
    found = {
        "x_train": archive(images=pictures),
        "make them one size": archive(x_train=pictures, x_test=npy(np.zeros((2, 4, 5), np.uint8))),
        "from next to nothing": archive(**{"x_train.npy": bomb}),
        "is an array of": archive(x_train=npy(np.zeros((8, 4)))),
        "holds ../../x_train": archive(**{"../../x_train.npy": pictures, "/x_train.npy": pictures}),
        "damaged": archive(x_train=pictures)[:-30],
        "header": archive(x_train=b"hello"),
        "is no data set": archive(),
    }
    for words, data in found.items():
        (tmp_path / "data.npz").write_bytes(data)
        fails("train", "vae", "--data", "data.npz", words=("data.npz", words))
        if words != "is an array of":  # rows of four values are pictures of 2 x 2
            fed("encode", data, "stdin")
    assert not (tmp_path.parent / "x_train.npy").exists()


@pytest.mark.fault(9, 16)
def test_two_arrays_in_an_archive_are_too_many_for_a_verb(fed: Fails) -> None:
    one_line(Result([], 1, b"", fed("decode", archive(a=npy(np.zeros((1, 1))), b=npy(np.zeros((1, 1)))), "a, b").encode()))


@pytest.mark.fault(15)
def test_latents_of_no_dimensions_are_refused(fails: Fails, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((3, 0), np.float32))
    fails("interpolate", "z.npy", words=("latents have one dimension at least",))
