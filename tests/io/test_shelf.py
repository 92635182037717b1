from pathlib import Path

import numpy as np
import pytest

from vaectl.io.shelf import Shelf


def test_what_is_laid_down_is_found_again_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    alike = [rng.integers(0, 256, (3, 4, 1), np.uint8) for _ in range(5)]
    shelf = Shelf()
    for picture in alike:
        shelf.add(picture)
    np.testing.assert_array_equal(shelf.stack(), np.stack(alike))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pictures_of_different_sizes_stay_as_they_are() -> None:
    different = [np.full((height, 2, 3), height, np.uint8) for height in (1, 5, 2)]
    shelf = Shelf()
    for picture in different:
        shelf.add(picture)
    assert [picture.tolist() for picture in shelf.pictures()] == [picture.tolist() for picture in different]


def test_an_empty_shelf_is_an_empty_array() -> None:
    assert len(Shelf().stack()) == 0 and list(Shelf().pictures()) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    shelf = Shelf()
    shelf.add(np.ones((1, 1, 1), np.uint8))
    assert shelf.stack().tolist() == [[[[1]]]]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how a mapping is to be read")
def test_pictures_in_any_order_are_read_without_their_neighbours() -> None:
    def mappings_without_reading_on() -> int:
        return sum("VmFlags" in line and " rr" in line for line in Path("/proc/self/smaps").read_text().splitlines())

    shelf = Shelf()
    shelf.add(np.ones((8, 8, 1), np.uint8))
    stack, before = shelf.stack(), mappings_without_reading_on()
    shelf.shuffled()
    assert mappings_without_reading_on() == before + 1
    assert stack.all()
