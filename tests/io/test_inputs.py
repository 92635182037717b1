import errno
import os
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, cast

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import write_png

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError, VaectlWarning
from vaectl.images.resize import ResizeSpec
from vaectl.io import inputs, outputs
from vaectl.io.decoders import ImageDecoder, PhotoDecoder
from vaectl.io.files import PeekableReader
from vaectl.io.records import MAX_BATCH_SIZE, Batch
from vaectl.io.sources import File, Folder, SkipPolicy, Source

SPEC = ResizeSpec((28, 28, 1))


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def sources(*paths: object) -> list[Source]:
    return [Folder(str(path)) if os.path.isdir(str(path)) else File(str(path)) for path in paths]


def read_images(*paths: object, skip_bad: bool = False) -> list[Batch]:
    return list(inputs.read_batches(sources(*paths), ImageDecoder(SPEC), SkipPolicy(skip_bad)))


def read_photos(*paths: object, channels: int = 3, skip_bad: bool | None = None) -> list[Batch]:
    return list(inputs.read_batches(sources(*paths), PhotoDecoder(channels), SkipPolicy(skip_bad)))


def test_a_folder_yields_its_images_in_the_order_of_their_paths(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index, name in enumerate(["b.png", "a/z.png", "a/sub/k.png", "c.png"]):
        write_png(tmp_path / name, digits[index])
    (found,) = read_images(tmp_path)
    assert list(found.names) == ["a/sub/k.png", "a/z.png", "b.png", "c.png"]
    np.testing.assert_allclose(found.arrays[2], digits[0] / 255, atol=1e-6)


def test_files_that_are_not_images_are_ignored_and_some_are_named(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "one.png", digits[0])
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.png")
    with pytest.warns(VaectlWarning, match=r"ignored 2 files that are not images \('empty.png', 'notes.txt'\)$"):
        assert names(read_images(tmp_path)) == ["one.png"]
    (tmp_path / "a").mkdir()
    for index in range(3):
        (tmp_path / "a" / f"{index}.txt").touch()
    with pytest.warns(VaectlWarning, match=r"ignored 5 files .* \('a/0.txt', 'a/1.txt', 'a/2.txt' and 2 more\)$"):
        read_images(tmp_path)


@pytest.mark.parametrize(("brand", "format"), [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")])
def test_a_photo_in_a_format_of_phones_is_named(brand: bytes, format: str, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "one.png", digits[0])
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(12))
    with pytest.raises(VaectlError, match=f"photo.heic' is {format}, which vaectl does not read: convert it to JPEG or PNG"):
        read_images(tmp_path / "photo.heic")
    what = r"ignored HEIC or AVIF, which vaectl does not read \('photo.heic'\): convert it to JPEG or PNG"
    with pytest.warns(VaectlWarning, match=what):
        assert names(read_images(tmp_path)) == ["one.png"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="contains no images: give another folder"):
        read_images(tmp_path)


def test_a_format_is_detected_from_the_bytes_and_not_the_name(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    path = write_png(tmp_path / "one.png", digits[0]).rename(tmp_path / "one.npy")
    assert names(read_images(path)) == ["one.npy"]


def test_rows_of_arrays_are_numbered_across_batches(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "many.v2.npy", np.tile(digits, (10, 1, 1, 1)))
    found = read_images(tmp_path / "many.v2.npy")
    assert len(found) > 1
    assert names(found)[::639] == ["many.v2-00000", "many.v2-00639"]


def test_several_arrays_in_one_file_are_read_one_after_another(tmp_path: Path) -> None:
    with (tmp_path / "z.npy").open("wb") as stream:
        np.save(stream, np.zeros((2, 3)))
        np.save(stream, np.ones(3))
    (found,) = inputs.read_latents(sources(tmp_path / "z.npy"), 3)
    assert list(found.names) == ["z-00000", "z-00001", "z-00002"]
    assert found.arrays.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]


def read_table(text: str, tmp_path: Path, latent_dim: int = 2) -> Batch:
    (tmp_path / "z.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    (found,) = inputs.read_latents(sources(tmp_path / "z.csv"), latent_dim)
    return found


def test_a_table_holds_latents_their_names_and_labels(tmp_path: Path) -> None:
    found = read_table('name,label,z0,z1\n"a, b\n""c"".png",cat,1,-2e-3\nname,,3,4\n\udcff.png,dog,5,6\n,dog,7,8\n', tmp_path)
    assert found.arrays.tolist() == np.array([[1, -2e-3], [3, 4], [5, 6], [7, 8]], np.float32).tolist()
    assert list(found.names) == ['a, b\n"c".png', "name", "\udcff.png", "z-00000"]
    assert list(found.labels) == ["cat", None, "dog", "dog"]
    assert list(read_table("name,z0,z1\na,1,2", tmp_path).labels) == [None]
    assert list(read_table("z0,z1\n1,2\n3,4", tmp_path).names) == ["z-00000", "z-00001"]
    assert File(str(tmp_path / "z.csv")).count() is None  # before it is read


def test_other_columns_of_a_table_are_passed_over(tmp_path: Path) -> None:
    table = ",label,z0,cluster,z1,name\n0,cat,1,7,2,a\n1,,3,7,4,z0\n"
    found = read_table(table, tmp_path)
    assert found.arrays.tolist() == [[1, 2], [3, 4]]
    assert list(found.names) == ["a", "z0"] and list(found.labels) == ["cat", None]
    with pytest.raises(VaectlError, match=r"line 2 has 5 fields, its header has 6"):
        read_table(table.replace(",2,a", ",2"), tmp_path)
    with pytest.raises(VaectlError, match=r"latents of shape \(N, 1\)"):
        read_table("name,z0,z2\na,1,2\n", tmp_path)


@pytest.mark.parametrize(
    "edit", [("", "\ufeff"), ("\n", "\r\n"), ("name,z0,z1", '"name","z0","z1"'), ("\n", "\n\n"), ("1,", " 1.00 ,")]
)
def test_a_table_that_a_spreadsheet_saved_is_read(edit: tuple[str, str], tmp_path: Path) -> None:
    old, new = edit
    text = "name,z0,z1\na,1,2\nb,3,4\n"
    found = read_table(text.replace(old, new) if old else new + text, tmp_path)
    assert found.arrays.tolist() == [[1, 2], [3, 4]] and list(found.names) == ["a", "b"]


def test_tables_and_arrays_may_follow_one_another(tmp_path: Path) -> None:
    with (tmp_path / "z").open("wb") as stream:
        np.save(stream, [0, 1])
        stream.write(b"name,z0,z1\na,2,3\nname,label,z0,z1\nb,cat,4,5\n")
    (found,) = inputs.read_latents(sources(tmp_path / "z"), 2)
    assert found.arrays.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert list(zip(found.names, found.labels, strict=True)) == [("z-00000", None), ("a", None), ("b", "cat")]


def test_a_table_without_end_is_read_batch_by_batch(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with suppress(BrokenPipeError), (tmp_path / "fifo").open("wb") as stream:
            stream.write(b"name,z0\n")
            while True:
                stream.write(b"a,1\n" * 100_000)

    writer = Thread(target=write)
    writer.start()
    found = inputs.read_latents(sources(tmp_path / "fifo"), 1)
    assert all(next(found).arrays.sum() == MAX_BATCH_SIZE for _ in range(1500))
    found.close()
    writer.join()


def test_bytes_after_an_array_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((2, 3)))
    with (tmp_path / "z.npy").open("ab") as stream:
        stream.write(b"garbage")
    with pytest.raises(VaectlError, match="neither an image nor an array"):
        list(inputs.read_latents(sources(tmp_path / "z.npy"), 3))


@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 2), ()])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros(shape))
    with pytest.raises(VaectlError, match=r"latents of shape \(N, 2\) are expected"):
        list(inputs.read_latents(sources(tmp_path / "z.npy"), 2))


def test_an_array_without_rows_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((0, 2)))
    with pytest.raises(VaectlError, match=r"z\.npy' is empty: it contains no latents"):
        list(inputs.read_latents(sources(tmp_path / "z.npy"), 2))


def test_a_batch_is_not_read_before_it_is_needed(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "000.png", digits[0])
    for index in range(1, 600):
        os.link(tmp_path / "000.png", tmp_path / f"{index:03d}.png")
    found = inputs.read_batches(sources(tmp_path), ImageDecoder(SPEC), SkipPolicy())
    next(found)
    (tmp_path / "599.png").unlink()
    with pytest.raises(VaectlError, match=r"599\.png': no such file"):
        list(found)


def test_points_are_latents_or_encoded_images(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    image = write_png(tmp_path / "one.png", digits[0])
    np.save(tmp_path / "z.npy", [[3, 4], [5, 6]])

    def encode(image: Image.Image) -> Array:
        return np.array(image.size, np.float32)

    (found,) = inputs.read_points(sources(tmp_path / "z.npy", image), encode)
    assert found.arrays.tolist() == [[3, 4], [5, 6], [28, 28]]
    assert list(found.names) == ["z-00000", "z-00001", "one.png"]
    with pytest.raises(VaectlError, match=r"latents of shape \(N, 3\) are expected"):
        list(inputs.read_points(sources(tmp_path / "z.npy"), encode, 3))


def test_images_decoded_in_threads_keep_their_order(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(60):
        # Every other one takes a hundred times as long.
        image = digits[index] if index % 2 else digits[index].repeat(20, axis=0).repeat(20, axis=1)
        write_png(tmp_path / f"{index:02d}.png", image)
    found = read_images(tmp_path)
    assert names(found) == [f"{index:02d}.png" for index in range(60)]
    stack = np.concatenate([batch.arrays for batch in found])
    np.testing.assert_allclose(stack, digits[:60] / 255, atol=0.25)


def test_files_are_listed_in_the_order_of_their_whole_paths(tmp_path: Path) -> None:
    for path in ("a/x", "a-b/x", "a.d", "a/b/c", "a/b.c", "B", "é/1", "a0"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert Folder(str(tmp_path)).listing[0] == sorted(
        os.path.relpath(path, tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    )


def test_with_skip_bad_damaged_images_are_listed_and_skipped(tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(6):
        write_png(tmp_path / f"{index}.png", digits[index])
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:100])
    with pytest.raises(VaectlError, match=r"2\.png' is damaged .* skip such files with --skip-bad"):
        read_images(tmp_path)
    with pytest.warns(VaectlWarning) as warnings:
        found = read_images(tmp_path, skip_bad=True)
    assert names(found) == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    first, last = (str(warning.message) for warning in warnings)
    assert "2.png' is damaged" in first and first.endswith(": skipped")
    assert last == "skipped 1 image that could not be read"


def test_photos_keep_their_size_their_alpha_and_their_bit_depth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    alpha = write_png(tmp_path / "alpha.png", rng.integers(0, 256, (5, 7, 4), np.uint8))
    deep = rng.integers(0, 65536, (4, 6, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    gray = rng.integers(0, 65536, (3, 2)).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    one, two, three = read_photos(tmp_path)
    assert (one.arrays.shape, one.metadata.bits) == ((1, 5, 7, 4), 8)
    np.testing.assert_allclose(one.arrays[0], np.asarray(Image.open(alpha)) / 255, atol=1e-6)
    assert (two.arrays.shape, two.metadata.bits) == ((1, 4, 6, 3), 16)
    np.testing.assert_allclose(two.arrays[0], deep / 65535, atol=1e-6)
    assert (three.arrays.shape, three.metadata.bits) == ((1, 3, 2, 3), 16)
    np.testing.assert_allclose(three.arrays[0, ..., 1], gray / 65535, atol=1e-6)
    (first,) = read_photos(alpha, channels=1)
    assert first.arrays.shape == (1, 5, 7, 2)
    np.testing.assert_allclose(first.arrays[0, ..., 1], np.asarray(Image.open(alpha))[..., 3] / 255, atol=1e-6)


def test_a_deep_photo_is_turned_upright(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (4, 6, 3)).astype(np.uint16)
    data = imagecodecs.png_encode(deep)
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # turn it by a quarter
    chunk = b"eXIf" + exif
    turned = data[:33] + len(exif).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    (tmp_path / "deep.png").write_bytes(turned)
    (upright,) = read_photos(tmp_path / "deep.png")
    np.testing.assert_allclose(upright.arrays[0], np.rot90(deep / 65535, -1), atol=1 / 255)


def test_photos_in_an_array_are_read_one_by_one(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).random((3, 6, 5, 3), np.float32)
    np.save(tmp_path / "many.npy", stack)
    found = read_photos(tmp_path / "many.npy")
    assert names(found) == ["many-00000", "many-00001", "many-00002"]
    np.testing.assert_array_equal(np.concatenate([batch.arrays for batch in found]), stack)
    with pytest.raises(VaectlError, match=r"images of shape \(N, height, width, 1\), channels last, are expected"):
        read_photos(tmp_path / "many.npy", channels=1)


@pytest.mark.filterwarnings("ignore:.*skipped")
def test_skipping_every_photo_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with (
        pytest.warns(VaectlWarning, match="skipped 1 image that could not be read"),
        pytest.raises(VaectlError, match="contains no images that can be read"),
    ):
        read_photos(tmp_path, skip_bad=True)


def test_a_read_error_of_the_disk_names_the_file() -> None:
    class FailingStream:
        def read(self, size: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(VaectlError, match=r"'one\.png': input/output error"):
        PeekableReader(cast(BinaryIO, FailingStream()), "'one.png'").peek(12)


@pytest.mark.filterwarnings("ignore:skipped 1")
def test_with_skip_bad_images_that_are_too_large_are_skipped_too(
    tmp_path: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.{'bmp' if index == 1 else 'png'}", digits[index])
    with (tmp_path / "1.bmp").open("ab") as stream:
        stream.write(bytes(5000))
    monkeypatch.setattr("vaectl.images.formats.MAX_IMAGE_BYTES", 4000)
    with pytest.warns(VaectlWarning, match=r"1.bmp' is larger than 4000 bytes: skipped"):
        found = read_images(tmp_path, skip_bad=True)
    assert names(found) == ["0.png", "2.png"]
    with pytest.raises(VaectlError, match=r"1.bmp' is larger"):
        read_images(tmp_path)


def test_folders_may_be_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):
        deep /= "a"
        deep.mkdir()
    (deep / "x.txt").touch()
    assert Folder(str(tmp_path)).listing[0] == ["a/" * 1100 + "x.txt"]
    (deep / "x.txt").unlink()
    while deep != tmp_path:  # pytest removes folders recursively
        deep.rmdir()
        deep = deep.parent


def test_a_parquet_table_may_have_the_columns_of_csv(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    pq.write_table(pyarrow.table({"z1": [2.0, 4.0], "cluster": [0, 1], "z0": [1.0, 3.0]}), tmp_path / "z.parquet")
    (found,) = inputs.read_latents(sources(tmp_path / "z.parquet"), 2)
    assert found.arrays.tolist() == [[1, 2], [3, 4]]


def test_a_parquet_table_holds_latents_names_and_labels(tmp_path: Path) -> None:
    from pyarrow import parquet as pq

    latents = Batch(["a.png", "b\udcff.png"], np.array([[1, -2e-3], [3, 4]], np.float32), labels=["cat", None])
    outputs.write_latents([latents, latents], outputs.Destination(str(tmp_path / "z.parquet"), "parquet"))
    table = pq.read_table(tmp_path / "z.parquet")
    assert table.column_names == ["name", "label", "z"] and table.schema.field("z").type.list_size == 2
    (found,) = inputs.read_latents(sources(tmp_path / "z.parquet"), 2)
    assert list(found.names) == ["a.png", "b?.png"] * 2 and list(found.labels) == ["cat", None] * 2
    assert found.arrays.tolist() == [*latents.arrays.tolist(), *latents.arrays.tolist()]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "a"}], "has no column z, only name"),
        ([{"z": "a"}], "is damaged, or no table of latents"),
        ([{"z": [1.0, None]}], "NaN"),
        ([{"z": [1.0, 2.0]}, {"z": [1.0]}], "latents of shape"),
        ([{"z": None}], "latents"),
    ],
)
def test_a_parquet_table_without_latents_is_refused(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as pq

    pq.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "z.parquet")
    with pytest.raises(VaectlError, match=message):
        list(inputs.read_latents(sources(tmp_path / "z.parquet"), 2))


def test_a_cut_parquet_table_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "z.parquet").write_bytes(b"PAR1 and no end")
    with pytest.raises(VaectlError, match="is damaged, or no table of latents"):
        list(inputs.read_latents(sources(tmp_path / "z.parquet"), 2))
