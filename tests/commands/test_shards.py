"""--shard: the parts, one after another, are the whole."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import Result, one_line, write_png

Call = Callable[..., Result]


@pytest.fixture
def inputs(tmp_path: Path, digits: NDArray[np.uint8]) -> list[str]:
    """A folder of five images, an image, an array of seven, and two of a data set."""
    for index in range(5):
        write_png(tmp_path / "digits" / f"{index}.png", digits[index])
    np.save(tmp_path / "seven.npy", digits[5:12])
    write_png(tmp_path / "one.png", digits[12])
    return ["digits", "one.png", "seven.npy", "mnist:3", "mnist:train:4"]


@pytest.mark.parametrize("count", [1, 2, 3, 15])
def test_the_shards_of_latents_are_all_latents_in_order(count: int, inputs: list[str], vae: Path, run: Call) -> None:
    def encode(*arguments: str) -> list[tuple[str, str, str]]:
        table = run("encode", *inputs, "-c", vae, "--format", "csv", *arguments).stdout.decode()
        return [(row["name"], row["z0"], row["z1"]) for row in csv.DictReader(StringIO(table))]

    whole = encode()
    joined = [row for index in range(1, count + 1) for row in encode("--shard", f"{index}/{count}")]
    assert [name for name, *_ in joined] == [name for name, *_ in whole] and len(whole) == 15
    np.testing.assert_allclose(*(np.array([z for _, *z in rows], float) for rows in (joined, whole)), atol=1e-5)


def test_the_shards_of_a_data_set_are_all_its_images(vae: Path, run: Call, tmp_path: Path) -> None:
    for index in (1, 2, 3):
        run("encode", "mnist:test", "-c", vae, "--shard", f"{index}/3", "-o", f"z{index}.npy")
    run("encode", "mnist:test", "-c", vae, "-o", "z.npy")
    joined = np.concatenate([np.load(tmp_path / f"z{index}.npy") for index in (1, 2, 3)])
    np.testing.assert_allclose(joined, np.load(tmp_path / "z.npy"), atol=1e-5)


def test_the_shards_of_a_denoised_folder_are_the_folder(inputs: list[str], dae: Path, run: Call, tmp_path: Path) -> None:
    for index in (1, 2):
        run("denoise", "digits", "-c", dae, "--shard", f"{index}/2", "-o", "parts/")
    run("denoise", "digits", "-c", dae, "-o", "whole/")
    parts, whole = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("parts", "whole"))
    assert parts == whole and len(whole) == 5
    one_line(run("denoise", "digits", "-c", dae, "--shard", "1/2", "-o", "x.png", code=2), "--shard needs an output folder")


def test_the_shards_of_an_evaluation_cover_each_image_once(inputs: list[str], vae: Path, run: Call) -> None:
    def names(*arguments: str) -> list[bytes]:
        table = run("evaluate", "-c", vae, "--samples", 0, "--per-image", *arguments, "-q").stdout
        return sorted(line.split(b",")[0] for line in table.splitlines()[1:])

    for data in (["--data", "digits"], []):
        parts = [names(*data, "--shard", f"{index}/2") for index in (1, 2)]
        assert sorted(parts[0] + parts[1]) == names(*data)
        assert min(map(len, parts)) > 0
        assert json.loads(run("evaluate", "-c", vae, "--samples", 0, *data, "--shard", "1/2").stdout)["shard"] == "1/2"


def test_what_cannot_be_divided_is_told_in_words(inputs: list[str], vae: Path, run: Call) -> None:
    for text in ("3/2", "0/2", "1", "a/b", "1/0", "-1/2"):
        one_line(run("encode", "digits", "-c", vae, "--shard", text, code=2), "as in --shard 2/8")
    one_line(run("encode", "digits", "-c", vae, "--shard", "2/9", code=1), "5 images cannot be divided into 9 shards: use fewer")
    one_line(run("encode", "-", "-c", vae, "--shard", "1/2", input=b"", code=1), "stdin cannot be divided")
