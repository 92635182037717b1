"""Tar files are read as folders of classes are, in constant memory."""

import tarfile
import tracemalloc
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line

from vaectl.datasets.load import load_dataset
from vaectl.images.resize import ResizeSpec
from vaectl.io.decoders import ImageDecoder
from vaectl.io.sources import SkipPolicy
from vaectl.io.tars import TarImages, expand_braces
from vaectl.models import checkpoint

Call = Callable[..., Result]


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(str(path), mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return path


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels[..., 0]).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def shards(tmp_path: Path, digits: NDArray[np.uint8]) -> list[str]:
    """Three shards of 20 digits each with their classes, and the names of their images."""
    for number in range(3):
        members = []
        for index in range(20 * number, 20 * number + 20):
            members += [(f"{index:04d}.png", png(digits[index])), (f"{index:04d}.cls", str(index % 3).encode())]
        write_tar(tmp_path / f"{number:02d}.tar", members)
    return [f"{index % 3}/{index:04d}.png" for index in range(60)]


def test_braces_are_expanded_as_in_bash() -> None:
    assert expand_braces("a/{08..11}-{0..1}.tar")[:3] == ["a/08-0.tar", "a/08-1.tar", "a/09-0.tar"]
    assert expand_braces("{2..0}.tar") == ["2.tar", "1.tar", "0.tar"]
    assert expand_braces("plain.tar") == ["plain.tar"]


@pytest.mark.parametrize("divided", [False, True])
def test_shards_are_encoded_in_order_with_their_classes(
    divided: bool, shards: list[str], vae: Path, run: Call, digits: NDArray[np.uint8], tmp_path: Path
) -> None:
    parts = [["--shard", f"{index}/2"] for index in (1, 2)] if divided else [[]]
    tables = [run("encode", "{00..02}.tar", "-c", vae, "--format", "csv", *part).stdout.decode() for part in parts]
    rows = [line.split(",") for table in tables for line in table.splitlines()[1:]]
    assert [name for name, *_ in rows] == shards
    assert [label for _, label, *_ in rows] == [name[0] for name in shards]
    np.save(tmp_path / "digits.npy", digits[:60])
    run("encode", "digits.npy", "-c", vae, "-o", "z.npy")
    latents = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(latents, np.load(tmp_path / "z.npy"), atol=1e-5)


def test_shards_are_learned_from_as_a_data_set(shards: list[str], run: Call, tmp_path: Path) -> None:
    run("train", "vae", "--data", "{00..02}.tar", "--hidden", "8", "--epochs", "2", "-o", "x.safetensors")
    card = checkpoint.load(str(tmp_path / "x.safetensors")).card
    assert card.data["train"] + card.data["test"] == 60 and card.network.image_shape == (28, 28, 1)
    dataset = load_dataset(str(tmp_path / "{00..02}.tar"))
    assert {*dataset.train_labels} == {*"012"}


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_compressed_shards_are_read(suffix: str, digits: NDArray[np.uint8], vae: Path, run: Call, tmp_path: Path) -> None:
    write_tar(tmp_path / f"x{suffix}", [("a/b.png", png(digits[0])), ("readme.txt", b"no image")], "w:gz")
    assert b"\na/b.png,a," in run("encode", f"x{suffix}", "-c", vae, "--format", "csv").stdout


def test_a_shard_that_ends_early_is_told_or_skipped(shards: list[str], vae: Path, run: Call, tmp_path: Path) -> None:
    whole = (tmp_path / "01.tar").read_bytes()
    for size in (3000, 20 * 1024, len(whole.rstrip(b"\0")) // 512 * 512):
        (tmp_path / "01.tar").write_bytes(whole[:size])
        one_line(run("encode", "{00..02}.tar", "-c", vae, "-o", "z.npy", code=1), "'01.tar'", "ends early", "--skip-bad")
        assert not (tmp_path / "z.npy").exists()
        result = run("encode", "{00..02}.tar", "-c", vae, "--format", "csv", "--skip-bad")
        assert b"2/0059.png" in result.stdout and b"ends early" in result.stderr
        told = [line for line in result.stderr.splitlines() if b"ends early" in line]
        assert len(told) == 1 and told[0].endswith(b"what follows in it is skipped")
    one_line(run("encode", "{00..09}.tar", "-c", vae, "-o", "z.npy", code=1), "tar'")


def test_all_images_of_a_key_have_its_class(digits: NDArray[np.uint8], vae: Path, run: Call, tmp_path: Path) -> None:
    members = [
        ("0.png", png(digits[0])),
        ("0.seg.png", png(digits[1])),
        ("0.cls", b"3"),
        ("1.cls", b"4"),
        ("1.png", png(digits[2])),
    ]
    write_tar(tmp_path / "x.tar", members)
    table = run("encode", "x.tar", "-c", vae, "--format", "csv").stdout.decode()
    assert [line.split(",")[:2] for line in table.splitlines()[1:]] == [["3/0.png", "3"], ["3/0.seg.png", "3"], ["4/1.png", "4"]]


def test_damaged_images_and_no_shards_at_all_are_told(digits: NDArray[np.uint8], vae: Path, run: Call, tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.png", b"\x89PNG\r\n\x1a\n"), ("b.png", png(digits[0]))])
    one_line(run("encode", "x.tar", "-c", vae, "-o", "z.npy", code=1), "'x.tar': 'a.png' is damaged")
    result = run("train", "ae", "--data", "x.tar", "--epochs", "1", "--skip-bad", "-o", "x.safetensors")
    assert b"'x.tar': 'a.png' is damaged (truncated PNG): skipped" in result.stderr
    one_line(run("encode", "no.tar", "-c", vae, "-o", "z.npy", code=1), "'no.tar': no such file")
    write_tar(tmp_path / "empty.tar", [("readme.txt", b"no image")])
    one_line(run("encode", "empty.tar", "-c", vae, "-o", "z.npy", code=1), "'empty.tar' is empty: it contains no images")


def test_members_of_a_large_shard_do_not_stay_in_memory(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    data = png(digits[0])
    write_tar(tmp_path / "large.tar", [(f"{index}.png", data) for index in range(5000)])
    tracemalloc.start()
    tasks = TarImages(str(tmp_path / "large.tar")).tasks(ImageDecoder(ResizeSpec((28, 28, 1))), SkipPolicy())
    assert sum(map(callable, tasks)) == 5000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_tar_files_are_divided_whole(shards: list[str], vae: Path, run: Call) -> None:
    tables = [run("encode", "{00..02}.tar", "-c", vae, "--format", "csv", "--shard", f"{part}/3").stdout for part in (1, 2, 3)]
    assert [len(table.splitlines()) for table in tables] == [21, 21, 21]
    one_line(run("encode", "00.tar", "-c", vae, "--shard", "1/2", code=1), "'00.tar' cannot be divided into 2 shards")


def test_an_image_without_content_is_told_and_not_left_out(
    digits: NDArray[np.uint8], vae: Path, run: Call, tmp_path: Path
) -> None:
    write_tar(
        tmp_path / "x.tar",
        [("0.png", png(digits[0])), ("1.png", b""), ("1.txt", b""), ("2.jpg", b"<html>"), ("3.png", png(digits[3]))],
    )
    one_line(run("encode", "x.tar", "-c", vae, "-o", "z.npy", code=1), "'x.tar': '1.png' is empty")
    one_line(run("train", "vae", "--data", "x.tar", code=1), "'x.tar': '1.png'")
    result = run("encode", "x.tar", "-c", vae, "--skip-bad", "--format", "csv")
    assert [line.split(b",")[0] for line in result.stdout.splitlines()[1:]] == [b"0.png", b"3.png"]
    assert all(name in result.stderr for name in (b"'1.png'", b"'2.jpg'", b"skipped 2 images"))


def test_a_folder_of_tar_files_is_told_how_to_name_them(shards: list[str], run: Call, tmp_path: Path) -> None:
    found = "contains tar files but no images ('00.tar', '01.tar', '02.tar'): name them, as in"
    one_line(run("train", "vae", "--data", ".", code=1), found, "{0000..0127}.tar'")
