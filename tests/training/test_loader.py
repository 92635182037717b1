from itertools import count

import numpy as np
import pytest
import torch

from vaectl.training import loader
from vaectl.training.loader import DataLoader, ImageDataset, RandomCrops, make_dataset, shift_images


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch_has_every_image_once_except_an_incomplete_batch() -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    found = [batch.flatten().tolist() for batch in ImageDataset(images, "cpu").batches(4, generator())]
    assert [len(batch) for batch in found] == [4, 4]
    assert len({value for batch in found for value in batch}) == 8


def test_crops_are_parts_of_the_photos_rotated_and_flipped() -> None:
    rows, columns = np.mgrid[:40, :30]
    photo = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    crops = RandomCrops([photo], (8, 8, 3))
    for crop in crops.crop_batch(50, np.random.default_rng(0)).astype(int):
        assert (crop[..., 2] == crop[..., 0] + crop[..., 1]).all()
        assert np.ptp(crop[..., 0]) == np.ptp(crop[..., 1]) == 7
    first_columns = {tuple(crop[:, 0, 0]) for crop in crops.crop_batch(50, np.random.default_rng(0))}
    assert any(column[0] > column[-1] for column in first_columns) and any(column[0] == column[-1] for column in first_columns)


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 4, 3)])
def test_a_photo_smaller_than_a_crop_is_padded_with_its_mirror_image(shape: tuple[int, ...]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    found = RandomCrops([photo], shape).init_images()
    assert found.shape[1:] == shape
    assert set(np.unique(found)) == set(np.unique(photo))


def test_small_photos_are_chosen_as_often_as_large_ones() -> None:
    black, white = np.zeros((10, 10, 1), np.uint8), np.full((30, 30, 1), 255, np.uint8)
    white_fraction = RandomCrops([black, white], (4, 4, 1)).crop_batch(2000, np.random.default_rng(0)).mean() / 255
    assert white_fraction == pytest.approx(0.5, abs=0.03)


def test_the_same_seed_gives_the_same_crops() -> None:
    photos = [np.random.default_rng(0).integers(0, 256, (50, 60, 1), np.uint8)]
    one, same, other = (next(RandomCrops(photos, (8, 8, 1)).batches(4, generator(seed))) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_images_of_the_size_of_the_network_are_used_whole_and_others_cropped() -> None:
    images = np.zeros((3, 8, 8, 1), np.uint8)
    assert isinstance(make_dataset(images, (8, 8, 1), "cpu"), ImageDataset)
    assert isinstance(make_dataset(images, (4, 4, 1), "cpu"), RandomCrops)
    assert isinstance(make_dataset([*images], (4, 4, 1), "cpu"), RandomCrops)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 5, 6])
def test_a_loader_set_to_a_step_continues_with_the_same_batches(step: int) -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    whole = DataLoader(ImageDataset(images, "cpu"), 3, 2, generator())
    batches, states = [], [(whole.random.get_state(), whole.epoch_rng_state)]
    for batch in whole:
        batches.append(batch.flatten().tolist())
        states.append((whole.random.get_state(), whole.epoch_rng_state))
    assert (whole.steps_per_epoch, whole.steps, len(batches)) == (3, 6, 6)
    resumed = DataLoader(ImageDataset(images, "cpu"), 3, 2, generator(9))
    resumed.step = step
    rng_state, resumed.epoch_rng_state = states[step]
    resumed.random.set_state(rng_state)
    assert [batch.flatten().tolist() for batch in resumed] == batches[step:]


def test_images_are_moved_by_up_to_so_many_pixels_and_their_edges_repeated() -> None:
    rows, columns = np.mgrid[:6, :9].astype(np.uint8)
    images = torch.from_numpy(np.stack([rows, columns], axis=2))[None].repeat(400, 1, 1, 1)
    moved = shift_images(images, 2, generator()).long()
    offsets = moved[:, 3, 4] - torch.tensor([3, 4])
    assert {tuple(offset) for offset in offsets.tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    for axis, size in ((0, 6), (1, 9)):
        expected = (images[..., axis].long() + offsets[:, axis, None, None]).clamp(0, size - 1)
        assert torch.equal(moved[..., axis], expected)


def test_a_loader_knows_the_end_of_each_epoch() -> None:
    loader = DataLoader(ImageDataset(np.zeros((9, 1, 1, 1), np.uint8), "cpu"), 4, 2, generator())
    assert [loader.ends_epoch for _ in loader] == [False, True, False, True]


def test_the_clock_begins_once_what_an_interrupted_run_has_seen_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count(step=10)
    monkeypatch.setattr(loader, "perf_counter", lambda: next(seconds))
    batches = DataLoader(ImageDataset(np.zeros((8, 2, 2, 1), np.uint8), "cpu"), 2, 1, generator(0))
    assert batches.started == 0
    batches.step = 3
    assert len([*batches]) == 1 and batches.started == 10
