import csv
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vaectl.errors import UsageError, VaectlError
from vaectl.io import sinks
from vaectl.io.sinks import Layout
from vaectl.io.sources import Batch


def never(picture: NDArray[np.float32]) -> None:
    raise AssertionError("nothing is to be shown")


def batches(names: list[str]) -> list[Batch]:
    stack = np.linspace(0, 1, len(names) * 12, dtype=np.float32).reshape(-1, 3, 4, 1)
    return [Batch(names[:2], stack[:2]), Batch(names[2:], stack[2:])]


def test_an_array_holds_all_batches(tmp_path: Path) -> None:
    path = str(tmp_path / "z.npy")
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    sinks.write_latents([Batch("ab", rows[:2]), Batch("cde", rows[2:])], sinks.destination(path, None, sinks.LATENT_FORMATS))
    np.testing.assert_array_equal(np.load(path), rows)


def test_a_table_begins_with_the_name_and_loses_no_digit(tmp_path: Path) -> None:
    path = tmp_path / "z.csv"
    values = np.array([[1 / 3, -1e-20], [np.pi, 16777217]], np.float32)
    odd = ["a, b\n[c]\rd.png", os.fsdecode(b"\xff.png")]
    sinks.write_latents([Batch(odd, values)], sinks.destination(str(path), None, sinks.LATENT_FORMATS))
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["name", "z0", "z1"]
    assert [row[0] for row in rows] == odd
    assert np.array([row[1:] for row in rows], np.float32).tobytes() == values.tobytes()


def test_several_pictures_make_a_sheet(tmp_path: Path) -> None:
    path = str(tmp_path / "sheet.png")
    place = sinks.destination(path, None, sinks.PICTURE_FORMATS)
    sinks.write_pictures(batches(list("abc")), place, Layout(never, columns=2, scale=3))
    assert Image.open(path).size == (2 * 4 * 3, 2 * 3 * 3)


def test_a_folder_keeps_names_and_subfolders(tmp_path: Path) -> None:
    folder = f"{tmp_path}/new/"
    place = sinks.destination(folder, None, sinks.PICTURE_FORMATS)
    sinks.write_pictures(batches(["a.jpg", "a.png", "sub/b.gif", "v1.5-00003"]), place, Layout(never))
    found = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png"))
    assert found == ["a-2.png", "a.png", "sub/b.png", "v1.5-00003.png"]


def test_a_number_in_the_name_counts(tmp_path: Path) -> None:
    path = str(tmp_path / "p%03d.webp")
    sinks.write_pictures(batches(list("abc")), sinks.destination(path, None, sinks.PICTURE_FORMATS), Layout(never))
    assert sorted(os.listdir(tmp_path)) == ["p000.webp", "p001.webp", "p002.webp"]


def test_a_number_in_a_folder_s_name_stays(tmp_path: Path) -> None:
    (tmp_path / "%d").mkdir()
    path = str(tmp_path / "%d" / "%d-of-%d.png")
    sinks.write_pictures(batches(list("abc")), sinks.destination(path, None, sinks.PICTURE_FORMATS), Layout(never))
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
def test_the_format_is_the_one_asked_for_or_the_suffix_s_or_the_verb_s(
    output: str, format: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sinks.destination(output, format, sinks.LATENT_FORMATS).format == expected


def test_a_place_or_format_that_will_not_do_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="writes npy, csv"):
        sinks.destination("z.txt", None, sinks.LATENT_FORMATS)
    with pytest.raises(UsageError, match="writes png, jpg, webp, gif, apng"):
        sinks.destination("z.npy", None, sinks.PICTURE_FORMATS)
    with pytest.raises(UsageError, match="is a folder, and latents go into one file"):
        sinks.destination(str(tmp_path), None, sinks.LATENT_FORMATS)
    with pytest.raises(VaectlError, match="make it first"):
        sinks.destination("none/z.npy", None, sinks.LATENT_FORMATS)


def test_a_file_where_a_folder_is_due_is_told(tmp_path: Path) -> None:
    (tmp_path / "faces").touch()
    place = sinks.destination(f"{tmp_path}/", "png", sinks.STILL_FORMATS)
    with pytest.raises(VaectlError, match="faces': file exists: move it away"):
        sinks.write_pictures(batches(["faces/a.png"]), place, Layout(never))
