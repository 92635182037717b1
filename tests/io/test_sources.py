import errno
import os
import zlib
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import write_png

from vaectl.errors import Remark, VaectlError
from vaectl.frame import Frame
from vaectl.io import parts, sources
from vaectl.io.ahead import worked_ahead
from vaectl.io.files import Reader

FRAME = Frame((28, 28, 1))


def names(batches: list[sources.Batch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def pictures(*inputs: object) -> list[sources.Batch]:
    return list(sources.read_pictures([str(path) for path in inputs], FRAME))


def test_a_folder_gives_its_pictures_in_the_order_of_their_paths(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index, name in enumerate(["b.png", "a/z.png", "a/sub/k.png", "c.png"]):
        write_png(tmp_path / name, digits[index])
    (found,) = pictures(tmp_path)
    assert list(found.names) == ["a/sub/k.png", "a/z.png", "b.png", "c.png"]
    np.testing.assert_allclose(found.arrays[2], digits[0] / 255, atol=1e-6)


def test_files_that_are_no_pictures_and_odd_entries_are_passed_over(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "one.png", digits[0])
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.warns(Remark, match="2 of its files are no pictures and were passed over"):
        assert names(pictures(tmp_path)) == ["one.png"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="holds no pictures"):
        pictures(tmp_path)


def test_a_picture_is_what_its_bytes_say_and_not_its_name(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    path = write_png(tmp_path / "one.png", digits[0]).rename(tmp_path / "one.npy")
    assert names(pictures(path)) == ["one.npy"]


def test_rows_of_arrays_are_numbered_through_all_batches(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "many.v2.npy", np.tile(digits, (10, 1, 1, 1)))
    found = pictures(tmp_path / "many.v2.npy")
    assert len(found) > 1
    assert names(found)[::639] == ["many.v2-00000", "many.v2-00639"]


def test_several_arrays_in_one_file_follow_each_other(tmp_path: Path) -> None:
    with (tmp_path / "z.npy").open("wb") as stream:
        np.save(stream, np.zeros((2, 3)))
        np.save(stream, np.ones(3))
    (found,) = sources.read_latents([str(tmp_path / "z.npy")], 3)
    assert list(found.names) == ["z-00000", "z-00001", "z-00002"]
    assert found.arrays.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]


def test_bytes_after_an_array_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((2, 3)))
    with (tmp_path / "z.npy").open("ab") as stream:
        stream.write(b"garbage")
    with pytest.raises(VaectlError, match="neither a picture nor an array"):
        list(sources.read_latents([str(tmp_path / "z.npy")], 3))


@pytest.mark.parametrize(("shape", "words"), [((4, 3), r"latents are \(N, 2\)"), ((2, 2, 2), "latents are"), ((), "latents are")])
def test_latents_of_another_width_are_refused(shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros(shape))
    with pytest.raises(VaectlError, match=words):
        list(sources.read_latents([str(tmp_path / "z.npy")], 2))


def test_no_rows_at_all_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((0, 2)))
    with pytest.raises(VaectlError, match="no latents came in"):
        list(sources.read_latents([str(tmp_path / "z.npy")], 2))


def test_a_batch_is_not_read_before_it_is_asked_for(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "000.png", digits[0])
    for index in range(1, 600):
        os.link(tmp_path / "000.png", tmp_path / f"{index:03d}.png")
    found = sources.read_pictures([str(tmp_path)], FRAME)
    next(found)
    (tmp_path / "599.png").unlink()
    with pytest.raises(VaectlError, match=r"599\.png': no such file"):
        list(found)


def test_points_are_latents_or_encoded_pictures(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    picture = write_png(tmp_path / "one.png", digits[0])
    np.save(tmp_path / "z.npy", [[3, 4], [5, 6]])

    def encode(image: Image.Image) -> NDArray[np.float32]:
        return np.array(image.size, np.float32)

    (found,) = sources.read_points([str(tmp_path / "z.npy"), str(picture)], encode)
    assert found.arrays.tolist() == [[3, 4], [5, 6], [28, 28]]
    assert list(found.names) == ["z-00000", "z-00001", "one.png"]
    with pytest.raises(VaectlError, match=r"latents are \(N, 3\)"):
        list(sources.read_points([str(tmp_path / "z.npy")], encode, 3))


def test_pictures_decoded_in_threads_come_in_their_order(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(60):
        # Every other one takes a hundred times as long.
        picture = digits[index] if index % 2 else digits[index].repeat(20, axis=0).repeat(20, axis=1)
        write_png(tmp_path / f"{index:02d}.png", picture)
    found = pictures(tmp_path)
    assert names(found) == [f"{index:02d}.png" for index in range(60)]
    stack = np.concatenate([batch.arrays for batch in found])
    np.testing.assert_allclose(stack, digits[:60] / 255, atol=0.25)


def test_the_order_of_a_walk_is_that_of_sorted_paths(tmp_path: Path) -> None:
    for path in ("a/x", "a-b/x", "a.d", "a/b/c", "a/b.c", "B", "é/1", "a0"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert list(parts.files_under(str(tmp_path))) == sorted(
        os.path.relpath(path, tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    )


def test_work_ahead_is_bounded_and_its_errors_come_in_their_turn() -> None:
    begun = []

    def work(index: int) -> int:
        begun.append(index)
        if index == 40:
            raise VaectlError("the fortieth")
        return index

    results = worked_ahead(partial(work, index) for index in range(10_000))
    assert [next(results) for _ in range(40)] == list(range(40))
    with pytest.raises(VaectlError, match="the fortieth"):
        next(results)
    assert len(begun) < 200


def test_bad_pictures_are_listed_and_left_out_when_asked(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(6):
        write_png(tmp_path / f"{index}.png", digits[index])
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:100])
    with pytest.raises(VaectlError, match=r"2\.png' is damaged"):
        pictures(tmp_path)
    with pytest.warns(Remark) as said:
        found = list(sources.read_pictures([str(tmp_path)], FRAME, skip_bad=True))
    assert names(found) == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    assert ["2.png' is damaged" in str(said[0].message), str(said[-1].message)] == [True, "left out 1 that could not be read"]


def test_photographs_keep_their_size_their_alpha_and_their_depth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    alpha = write_png(tmp_path / "alpha.png", rng.integers(0, 256, (5, 7, 4), np.uint8))
    deep = rng.integers(0, 65536, (4, 6, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    grey = rng.integers(0, 65536, (3, 2)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    one, two, three = sources.read_photographs([str(tmp_path)], 3)
    assert (one.arrays.shape, one.depth) == ((1, 5, 7, 4), 8)
    np.testing.assert_allclose(one.arrays[0], np.asarray(Image.open(alpha)) / 255, atol=1e-6)
    assert (two.arrays.shape, two.depth) == ((1, 4, 6, 3), 16)
    np.testing.assert_allclose(two.arrays[0], deep / 65535, atol=1e-6)
    assert (three.arrays.shape, three.depth) == ((1, 3, 2, 3), 16)
    np.testing.assert_allclose(three.arrays[0, ..., 1], grey / 65535, atol=1e-6)
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # to be turned by a quarter
    chunk = b"eXIf" + exif
    data = (tmp_path / "deep.png").read_bytes()
    turned = data[:33] + len(exif).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    (tmp_path / "deep.png").write_bytes(turned)
    (upright,) = sources.read_photographs([str(tmp_path / "deep.png")], 3)
    np.testing.assert_allclose(upright.arrays[0], np.rot90(deep / 65535, -1), atol=1 / 255)
    (first, *_) = sources.read_photographs([str(alpha)], 1, invert=True)
    assert first.arrays.shape == (1, 5, 7, 2)
    np.testing.assert_allclose(first.arrays[0, ..., 1], np.asarray(Image.open(alpha))[..., 3] / 255, atol=1e-6)


def test_photographs_in_an_array_are_taken_one_by_one(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
    np.save(tmp_path / "many.npy", stack)
    found = list(sources.read_photographs([str(tmp_path / "many.npy")], 3))
    assert names(found) == ["many-00000", "many-00001", "many-00002"]
    np.testing.assert_array_equal(np.concatenate([batch.arrays for batch in found]), stack)
    with pytest.raises(VaectlError, match="is an array of"):
        list(sources.read_photographs([str(tmp_path / "many.npy")], 1))


@pytest.mark.filterwarnings("ignore:.*left out")
def test_photographs_of_which_none_can_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.warns(Remark, match="left out 1"), pytest.raises(VaectlError, match="no pictures came in"):
        list(sources.read_photographs([str(tmp_path)], 3, skip_bad=True))


def test_a_disk_that_fails_while_it_is_read_is_told_with_the_name() -> None:
    class Failing:
        def read(self, size: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(VaectlError, match=r"'one\.png': input/output error"):
        Reader(cast(BinaryIO, Failing()), "'one.png'").peek(12)


@pytest.mark.filterwarnings("ignore:left out 1")
def test_a_picture_that_is_too_large_is_left_out_like_a_damaged_one(
    tmp_path: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", digits[index])
    with (tmp_path / "1.png").open("ab") as stream:
        stream.write(bytes(5000))
    monkeypatch.setattr("vaectl.io.files.LARGEST_PICTURE", 4000)
    with pytest.warns(Remark, match=r"1.png' is larger than 4000 bytes: left out"):
        (batch,) = sources.read_pictures([str(tmp_path)], FRAME, skip_bad=True)
    assert names([batch]) == ["0.png", "2.png"]
    with pytest.raises(VaectlError, match=r"1.png' is larger"):
        pictures(tmp_path)


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):
        deep /= "a"
        deep.mkdir()
    (deep / "x.txt").touch()
    assert list(parts.files_under(str(tmp_path))) == ["a/" * 1100 + "x.txt"]
    (deep / "x.txt").unlink()
    while deep != tmp_path:  # what clears up after tests would call itself as often
        deep.rmdir()
        deep = deep.parent
