from pathlib import Path

import numpy as np
import pytest

from vaectl.datasets.cache import DiskCache


def test_images_of_one_size_come_back_as_an_array_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 4, 1), np.uint8) for _ in range(5)]
    cache = DiskCache()
    for image in images:
        cache.append(image)
    np.testing.assert_array_equal(cache.as_array(), np.stack(images))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_images_of_several_sizes_come_back_as_a_list() -> None:
    images = [np.full((height, 2, 3), height, np.uint8) for height in (1, 5, 2)]
    cache = DiskCache()
    for image in images:
        cache.append(image)
    assert [image.tolist() for image in cache.as_list()] == [image.tolist() for image in images]


def test_an_empty_cache_is_an_empty_array_or_list() -> None:
    assert len(DiskCache().as_array()) == 0 and list(DiskCache().as_list()) == []


def test_without_a_writable_cache_folder_the_temporary_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = DiskCache()
    cache.append(np.ones((1, 1, 1), np.uint8))
    assert cache.as_array().tolist() == [[[[1]]]]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux shows the flags of a mapping")
def test_images_read_in_random_order_are_read_without_their_neighbors() -> None:
    def count_random_mappings() -> int:
        return sum("VmFlags" in line and " rr" in line for line in Path("/proc/self/smaps").read_text().splitlines())

    cache = DiskCache()
    cache.append(np.ones((8, 8, 1), np.uint8))
    images, before = cache.as_array(), count_random_mappings()
    cache.advise_random_access()
    assert count_random_mappings() == before + 1
    assert images.all()
