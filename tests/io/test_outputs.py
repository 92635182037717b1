import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaectl.base.errors import UsageError, VaectlError, VaectlWarning
from vaectl.images import formats
from vaectl.io import outputs
from vaectl.io.outputs import Layout, parse_destination
from vaectl.io.records import Batch


def make_batches(names: list[str]) -> list[Batch]:
    stack = np.linspace(0, 1, len(names) * 12, dtype=np.float32).reshape(-1, 3, 4, 1)
    return [Batch(names[:2], stack[:2]), Batch(names[2:], stack[2:])]


def test_an_npy_file_holds_all_batches(tmp_path: Path) -> None:
    path = str(tmp_path / "z.npy")
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    batches = [Batch("ab", rows[:2]), Batch("cde", rows[2:])]
    outputs.write_latents(batches, parse_destination(path, None, outputs.LATENT_FORMATS))
    np.testing.assert_array_equal(np.load(path), rows)


def test_a_csv_file_holds_names_and_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "z.csv"
    values = np.array([[1 / 3, -1e-20], [np.pi, 16777217]], np.float32)
    unusual = ["a, b\n[c]\rd.png", os.fsdecode(b"\xff.png")]
    outputs.write_latents([Batch(unusual, values)], parse_destination(str(path), None, outputs.LATENT_FORMATS))
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["name", "z0", "z1"]
    assert [row[0] for row in rows] == unusual
    assert np.array([row[1:] for row in rows], np.float32).tobytes() == values.tobytes()


def test_a_csv_file_has_the_labels_of_images_beside_their_names(tmp_path: Path) -> None:
    path = tmp_path / "z.csv"
    values = np.array([[0], [1]], np.float32)
    batches = [Batch(["a", "b"], values, labels=["cat", None]), Batch(["c", "d"], values, labels=["dog", "cat"])]
    outputs.write_latents(batches, parse_destination(str(path), None, outputs.LATENT_FORMATS))
    assert path.read_text().splitlines() == ["name,label,z0", "a,cat,0.0", "b,,1.0", "c,dog,0.0", "d,cat,1.0"]


def test_several_images_make_a_sheet(tmp_path: Path) -> None:
    path = str(tmp_path / "sheet.png")
    destination = parse_destination(path, None, formats.IMAGE_FORMATS)
    outputs.write_images(make_batches(list("abc")), destination, Layout(columns=2, scale=3))
    assert Image.open(path).size == (2 * 4 * 3, 2 * 3 * 3)


def test_a_still_image_keeps_its_pixels_by_default(tmp_path: Path) -> None:
    path = str(tmp_path / "sheet.png")
    outputs.write_images(make_batches(list("abc")), parse_destination(path, None, formats.IMAGE_FORMATS), Layout())
    assert Image.open(path).size == (3 * 4, 3)


def test_a_small_animation_is_enlarged_unless_a_scale_is_given(tmp_path: Path) -> None:
    path = str(tmp_path / "walk.gif")
    destination = parse_destination(path, None, formats.IMAGE_FORMATS)
    outputs.write_images(make_batches(list("abc")), destination, Layout())
    assert Image.open(path).size == (256, 192)
    outputs.write_images(make_batches(list("abc")), destination, Layout(scale=1))
    assert Image.open(path).size == (4, 3)


def test_a_large_animation_keeps_its_size(tmp_path: Path) -> None:
    path = str(tmp_path / "walk.gif")
    frames = np.zeros((2, 130, 200, 1), np.float32)
    outputs.write_images([Batch("ab", frames)], parse_destination(path, None, formats.IMAGE_FORMATS), Layout())
    assert Image.open(path).size == (200, 130)


def test_a_folder_keeps_names_and_subfolders(tmp_path: Path) -> None:
    folder = f"{tmp_path}/new/"
    destination = parse_destination(folder, None, formats.IMAGE_FORMATS)
    outputs.write_images(make_batches(["a.jpg", "a.png", "sub/b.gif", "v1.5-00003"]), destination, Layout())
    found = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png"))
    assert found == ["a-2.png", "a.png", "sub/b.png", "v1.5-00003.png"]


def test_a_number_in_the_file_name_counts_from_zero(tmp_path: Path) -> None:
    path = str(tmp_path / "p%03d.webp")
    outputs.write_images(make_batches(list("abc")), parse_destination(path, None, formats.IMAGE_FORMATS), Layout())
    assert sorted(os.listdir(tmp_path)) == ["p000.webp", "p001.webp", "p002.webp"]


def test_a_number_in_the_folder_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "%d").mkdir()
    path = str(tmp_path / "%d" / "%d-of-%d.png")
    outputs.write_images(make_batches(list("abc")), parse_destination(path, None, formats.IMAGE_FORMATS), Layout())
    assert sorted(os.listdir(tmp_path / "%d")) == ["0-of-0.png", "1-of-1.png", "2-of-2.png"]


@pytest.mark.filterwarnings("ignore:.* will be one")
@pytest.mark.parametrize(
    ("output", "format", "expected"),
    [
        ("x.npy", None, "npy"),
        ("x.CSV", None, "csv"),
        ("x.npy", "csv", "csv"),
        ("x.txt", "npy", "npy"),
        ("x", None, "npy"),
        ("-", None, "npy"),
        ("/dev/null", None, "npy"),
    ],
)
def test_the_format_is_the_given_one_or_that_of_the_suffix_or_the_default(
    output: str, format: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_destination(output, format, outputs.LATENT_FORMATS).format == expected


def test_a_name_without_a_suffix_is_a_file_and_a_warning_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(VaectlWarning, match="'clean' will be written as one png file; clean/ would be a folder"):
        parse_destination("clean", None, formats.IMAGE_FORMATS)


def test_a_destination_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="writes npy, csv"):
        parse_destination("z.txt", None, outputs.LATENT_FORMATS)
    with pytest.raises(UsageError, match="writes png, jpg, webp, tif, gif, apng"):
        parse_destination("z.npy", None, formats.IMAGE_FORMATS)
    with pytest.raises(UsageError, match="is a folder, but npy is one file"):
        parse_destination(str(tmp_path), None, outputs.LATENT_FORMATS)
    with pytest.raises(VaectlError, match="create it first"):
        parse_destination("none/z.npy", None, outputs.LATENT_FORMATS)


@pytest.mark.parametrize(("output", "format"), [("x.png", None), ("-", None), (None, None), ("%d.png", None), ("clean/", "jpg")])
def test_keeping_formats_needs_a_folder_and_no_format(
    output: str | None, format: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--keep-format needs an output folder"):
        parse_destination(output, format, formats.IMAGE_FORMATS, keep_format=True)


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "faces").touch()
    destination = parse_destination(f"{tmp_path}/", "png", formats.STILL_FORMATS)
    with pytest.raises(VaectlError, match="faces': file exists: move it away"):
        outputs.write_images(make_batches(["faces/a.png"]), destination, Layout())
