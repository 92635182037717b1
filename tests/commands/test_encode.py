import csv
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl

Call = Callable[..., Result]


def loaded(data: bytes) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(BytesIO(data))
    return array


def test_latents_are_one_row_a_picture(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", digits[index])
    z = loaded(run("encode", "0.png", "1.png", "2.png", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:3]), atol=1e-6)
    assert z.dtype == np.float32


def test_arrays_and_archives_are_encoded_as_pictures_are(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits)
    np.savez(tmp_path / "x.npz", digits[..., 0] / 255)
    expected = vaectl.load(vae).encode(digits)
    np.testing.assert_allclose(loaded(run("encode", "x.npy", "-c", vae).stdout), expected, atol=1e-5)
    np.testing.assert_allclose(loaded(run("encode", "x.npz", "-c", vae).stdout), expected, atol=1e-5)
    piped = run("encode", "-c", vae, input=(tmp_path / "x.npz").read_bytes()).stdout
    np.testing.assert_allclose(loaded(piped), expected, atol=1e-5)


def test_a_folder_becomes_a_table_with_names(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    names = ["a b.png", "[c].png", "-d.png", "sub/e\nf.png"]
    for name, picture in zip(names, digits, strict=False):
        write_png(tmp_path / "in" / name, picture)
    run("encode", "in", "-o", "z.csv", "-c", vae)
    with (tmp_path / "z.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["name", "z0", "z1"]
    assert [row[0] for row in rows[1:]] == sorted(names)


def test_ink_on_paper_is_inverted(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "paper.png", 255 - digits[0])
    z = loaded(run("encode", "paper.png", "--invert", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:1]), atol=1e-5)


def test_size_and_colour_follow_the_checkpoint(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    large = Image.fromarray(digits[0, ..., 0]).resize((280, 280), Image.Resampling.BICUBIC).convert("RGBA")
    large.save(tmp_path / "large.webp", lossless=True)
    z = loaded(run("encode", "large.webp", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:1]), atol=0.3)


def test_draws_follow_the_seed_through_all_batches(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "same.npy", np.repeat(digits[:1], 600, axis=0))
    one, same, other = (run("encode", "same.npy", "--sample", "--seed", seed, "-c", vae).stdout for seed in (1, 1, 2))
    assert one == same != other
    assert len(np.unique(loaded(one), axis=0)) == 600


def test_a_point_cannot_be_drawn_from(run: Call, ae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0])
    one_line(run("encode", "0.png", "--sample", "-c", ae, code=1), "kind 'ae'", "use a vae")


def test_what_cannot_be_read_is_told_by_name(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    good = write_png(tmp_path / "good.png", digits[0])
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "z.npy", np.zeros((3, 2)))
    for name, words in {
        "cut.png": "'cut.png' is damaged",
        "none.png": "'none.png': no such file",
        "notes.txt": "'notes.txt' is neither a picture nor an array",
        "z.npy": "'z.npy' is an array of (3, 2): pictures of 28 x 28 x 1",
    }.items():
        one_line(run("encode", "good.png", name, "-c", vae, "-o", "out.npy", code=1), words)
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("output", ["z.txt", "z.png"])
def test_a_format_it_does_not_write_is_refused(output: str, run: Call, vae: Path) -> None:
    one_line(run("encode", "x.png", "-o", output, "-c", vae, code=2), f"'{output}'", "npy, csv", "--format")


@pytest.mark.fault(32)
def test_the_input_may_be_the_output(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits[:5])
    run("encode", "x.npy", "-o", "x.npy", "-c", vae)
    assert np.load(tmp_path / "x.npy").shape == (5, 2)


def test_pictures_of_several_kinds_follow_on_stdin(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    stream = b""
    for index, name in enumerate(["0.jpg", "1.png", "2.webp", "3.bmp", "4.jpg", "5.gif"]):
        stream += write_png(tmp_path / name, digits[index]).read_bytes()
    assert loaded(run("encode", "-c", vae, input=stream).stdout).shape == (6, 2)
    one_line(run("encode", "-c", vae, input=stream[:-900] + b"hello", code=1), "stdin")
