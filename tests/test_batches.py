import numpy as np
import pytest
import torch

from vaectl import batches
from vaectl.batches import Crops, Whole


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch_shows_every_picture_once_but_for_an_incomplete_batch() -> None:
    pictures = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    found = [batch.flatten().tolist() for batch in Whole(pictures, "cpu").epoch(4, random())]
    assert [len(batch) for batch in found] == [4, 4]
    assert len({value for batch in found for value in batch}) == 8


def test_crops_are_parts_of_the_photographs() -> None:
    rows, columns = np.mgrid[:40, :30]
    photograph = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    crops = Crops([photograph], (8, 8, 3))
    for crop in crops.cut(50, np.random.default_rng(0)).astype(int):
        assert (crop[..., 2] == crop[..., 0] + crop[..., 1]).all()
        assert np.ptp(crop[..., 0]) == np.ptp(crop[..., 1]) == 7
    orders = {tuple(crop[:, 0, 0]) for crop in crops.cut(50, np.random.default_rng(0))}
    assert any(order[0] > order[-1] for order in orders) and any(order[0] == order[-1] for order in orders)


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 4, 3)])
def test_a_photograph_smaller_than_a_crop_is_mirrored(shape: tuple[int, ...]) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    found = Crops([photograph], shape).sample()
    assert found.shape[1:] == shape
    assert set(np.unique(found)) == set(np.unique(photograph))


def test_large_photographs_give_more_crops_than_small_ones() -> None:
    black, white = np.zeros((10, 10, 1), np.uint8), np.full((30, 30, 1), 255, np.uint8)
    share = Crops([black, white], (4, 4, 1)).cut(2000, np.random.default_rng(0)).mean() / 255
    assert share == pytest.approx(0.9, abs=0.03)


def test_the_same_seed_gives_the_same_crops() -> None:
    photographs = [np.random.default_rng(0).integers(0, 256, (50, 60, 1), np.uint8)]
    one, same, other = (next(Crops(photographs, (8, 8, 1)).epoch(4, random(seed))) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_pictures_of_the_network_s_size_are_taken_whole_and_others_cropped() -> None:
    pictures = np.zeros((3, 8, 8, 1), np.uint8)
    assert isinstance(batches.stock(pictures, (8, 8, 1), "cpu"), Whole)
    assert isinstance(batches.stock(pictures, (4, 4, 1), "cpu"), Crops)
    assert isinstance(batches.stock([*pictures], (4, 4, 1), "cpu"), Crops)
