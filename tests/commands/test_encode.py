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


def load(data: bytes) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(BytesIO(data))
    return array


def test_each_image_becomes_one_row_of_latents(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", digits[index])
    z = load(run("encode", "0.png", "1.png", "2.png", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:3]), atol=1e-6)
    assert z.dtype == np.float32


def test_arrays_and_archives_are_encoded_as_images_are(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits)
    np.savez(tmp_path / "x.npz", digits[..., 0] / 255)
    expected = vaectl.load(vae).encode(digits)
    np.testing.assert_allclose(load(run("encode", "x.npy", "-c", vae).stdout), expected, atol=1e-5)
    np.testing.assert_allclose(load(run("encode", "x.npz", "-c", vae).stdout), expected, atol=1e-5)
    piped = run("encode", "-c", vae, input=(tmp_path / "x.npz").read_bytes()).stdout
    np.testing.assert_allclose(load(piped), expected, atol=1e-5)


def test_a_data_set_by_name_stands_for_its_images(run: Call, vae: Path, digits: NDArray[np.uint8]) -> None:
    expected = vaectl.load(vae).encode(digits)
    np.testing.assert_allclose(load(run("encode", "mnist:17", "-c", vae).stdout), expected[17:18], atol=1e-5)
    whole = load(run("encode", "mnist:test", "-c", vae).stdout)
    assert whole.shape == (10_000, 2)
    np.testing.assert_allclose(whole[:64], expected, atol=1e-5)
    table = run("encode", "mnist:test:3", "mnist:train:0", "-c", vae, "--format", "csv").stdout.decode().splitlines()
    assert [line.split(",")[:2] for line in table] == [["name", "label"], ["mnist-test-00003", "0"], ["mnist-train-00000", "5"]]
    one_line(run("encode", "mnist:10000", "-c", vae, code=1), "mnist:test has 10000 images", "image 10000 does not exist")


def test_a_file_wins_over_a_data_set_of_the_same_name(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "0.png", digits[0]).rename(tmp_path / "mnist")
    assert len(load(run("encode", "mnist", "-c", vae).stdout)) == 1


def test_a_folder_becomes_a_table_with_names(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    names = ["a b.png", "[c].png", "-d.png", "sub/e\nf.png"]
    for name, image in zip(names, digits, strict=False):
        write_png(tmp_path / "in" / name, image)
    run("encode", "in", "-o", "z.csv", "-c", vae)
    with (tmp_path / "z.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["name", "label", "z0", "z1"]
    assert [row[:2] for row in rows[1:]] == [[name, "sub" if "/" in name else ""] for name in sorted(names)]


def test_invert_swaps_black_and_white(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "paper.png", 255 - digits[0])
    z = load(run("encode", "paper.png", "--invert", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:1]), atol=1e-5)


def test_size_and_channels_become_those_of_the_model(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    large = Image.fromarray(digits[0, ..., 0]).resize((280, 280), Image.Resampling.BICUBIC).convert("RGBA")
    large.save(tmp_path / "large.webp", lossless=True)
    z = load(run("encode", "large.webp", "-c", vae).stdout)
    np.testing.assert_allclose(z, vaectl.load(vae).encode(digits[:1]), atol=0.3)


def test_samples_depend_on_the_seed_and_differ_between_batches(
    run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    np.save(tmp_path / "same.npy", np.repeat(digits[:1], 600, axis=0))
    one, same, other = (run("encode", "same.npy", "--sample", "--seed", seed, "-c", vae).stdout for seed in (1, 1, 2))
    assert one == same != other
    assert len(np.unique(load(one), axis=0)) == 600


def test_a_model_without_a_distribution_cannot_be_sampled_from(
    run: Call, ae: Path, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    write_png(tmp_path / "0.png", digits[0])
    one_line(run("encode", "0.png", "--sample", "-c", ae, code=1), "this ae has no q(z|x)", "use a vae")


def test_an_input_that_cannot_be_read_is_named(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    good = write_png(tmp_path / "good.png", digits[0])
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "z.npy", np.zeros((3, 2)))
    for name, words in {
        "cut.png": "'cut.png' is damaged",
        "none.png": "'none.png': no such file",
        "notes.txt": "'notes.txt' is neither an image nor an array",
        "z.npy": "'z.npy' is an array of shape (3, 2): images of shape (N, 28, 28, 1), channels last, are expected",
    }.items():
        one_line(run("encode", "good.png", name, "-c", vae, "-o", "out.npy", code=1), words)
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("output", ["z.txt", "z.png"])
def test_a_format_that_encode_does_not_write_is_refused(output: str, run: Call, vae: Path) -> None:
    one_line(run("encode", "x.png", "-o", output, "-c", vae, code=2), f"'{output}'", "npy, csv", "--format")


def test_the_output_may_replace_the_input(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", digits[:5])
    run("encode", "x.npy", "-o", "x.npy", "-c", vae)
    assert np.load(tmp_path / "x.npy").shape == (5, 2)


def test_stdin_may_hold_images_of_several_formats(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    stream = b""
    for index, name in enumerate(["0.jpg", "1.png", "2.webp", "3.bmp", "4.jpg", "5.gif"]):
        stream += write_png(tmp_path / name, digits[index]).read_bytes()
    assert load(run("encode", "-c", vae, input=stream).stdout).shape == (6, 2)
    one_line(run("encode", "-c", vae, input=stream[:-900] + b"hello", code=1), "stdin")
