import numpy as np
import pytest

from vaectl.base.arrays import Array
from vaectl.models.layers import Conv2d, Layer, PixelShuffle, PixelUnshuffle
from vaectl.models.network import build_unet, half_weights
from vaectl.models.numpy_engine import make_forward
from vaectl.models.tiling import receptive_radius, required_multiple, run_tiled


def test_kernels_add_up_to_the_receptive_radius() -> None:
    layers: list[Layer] = [Conv2d(1, 1, 3, 1), Conv2d(1, 1, 5, 1)]
    assert (receptive_radius(layers), required_multiple(layers)) == (3, 1)
    layers = [Conv2d(1, 1, 3, 2), Conv2d(1, 4, 3, 1), PixelShuffle(2), Conv2d(1, 1, 3, 1)]
    assert (receptive_radius(layers), required_multiple(layers)) == (1 + 2 + 1 + 1, 2)
    assert required_multiple([PixelUnshuffle(4), PixelShuffle(4)]) == 4


@pytest.mark.parametrize("size", [(96, 128), (75, 91), (40, 200), (1, 1), (3, 70)])
def test_small_tiles_give_the_same_image_as_one_large_tile(size: tuple[int, int]) -> None:
    network = build_unet((16, 16, 3), (4, 6))
    rng = np.random.default_rng(0)
    weights = {name: (rng.standard_normal(shape) / 6).astype(np.float32) for name, shape in network.weight_shapes().items()}
    forward = make_forward(network.decoder, half_weights("decoder", weights))
    images = rng.random((2, *size, 3), np.float32)
    whole = run_tiled(forward, network.decoder, images, tile_size=1000)
    tiled = run_tiled(forward, network.decoder, images, tile_size=24)
    assert whole.shape == images.shape
    assert np.abs(whole - images).max() > 0.1
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


def test_an_image_is_padded_by_reflection() -> None:
    seen: list[Array] = []

    def forward(batch: Array) -> Array:
        seen.append(batch)
        return batch

    image = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_array_equal(run_tiled(forward, [PixelUnshuffle(4), PixelShuffle(4)], image), image)
    assert seen[0][0, :, :, 0].tolist() == [[0, 1, 2, 2]] * 4


def test_the_tile_size_bounds_memory() -> None:
    network = build_unet((16, 16, 1), (4, 6))
    margin = receptive_radius(network.decoder) + required_multiple(network.decoder)
    sizes: list[int] = []

    def forward(batch: Array) -> Array:
        sizes.extend(batch.shape[1:3])
        return batch

    image = np.random.default_rng(0).random((1, 300, 500, 1), np.float32)
    np.testing.assert_array_equal(run_tiled(forward, network.decoder, image, tile_size=64), image)
    assert max(sizes) <= 64 + 2 * margin
