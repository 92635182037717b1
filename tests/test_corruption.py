import numpy as np
import pytest
import torch

from vaectl import corruption
from vaectl.errors import UsageError


def test_gaussian_noise_has_its_strength_and_stays_in_range() -> None:
    (noise,) = corruption.parse(["gaussian:0.1"])
    grey = np.full((4, 50, 50, 1), 0.5, np.float32)
    rng = np.random.default_rng(0)
    spoiled = noise(grey, lambda shape: rng.standard_normal(shape, np.float32))
    assert spoiled.std() == pytest.approx(0.1, rel=0.05)
    white = noise(np.ones_like(grey), lambda shape: rng.standard_normal(shape, np.float32))
    assert white.max() == 1
    assert white.min() < 1


def test_arrays_and_tensors_are_spoiled_alike() -> None:
    (noise,) = corruption.parse(["gaussian:0.5"])
    pictures = np.random.default_rng(0).random((2, 3, 3, 1), np.float32)
    drawn = np.random.default_rng(1).standard_normal(pictures.shape, np.float32)
    array = noise(pictures, lambda shape: drawn)
    tensor = noise(torch.from_numpy(pictures), lambda shape: torch.from_numpy(drawn))
    np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize(
    "spec", ["gaussian", "gaussian:", "gaussian:x", "gaussian:0", "gaussian:-1", "gaussian:nan", "blur:0.2", ""]
)
def test_what_is_no_corruption_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(UsageError, match=r"gaussian:0\.25"):
        corruption.parse([spec])
