import numpy as np
import pytest
from numpy.typing import NDArray

from vaectl import networks, tiles
from vaectl.engines import numpy as numpy_engine
from vaectl.layers import Conv, Fold, Row, Unfold, Upsample
from vaectl.networks import weights_of


def test_a_row_of_convolutions_sees_as_far_as_their_windows() -> None:
    rows: list[Row] = [Conv(1, 1, 3, 1), Conv(1, 1, 5, 1)]
    assert (tiles.reach(rows), tiles.grain(rows)) == (3, 1)
    rows = [Conv(1, 1, 3, 2), Conv(1, 1, 3, 1), Upsample(2), Conv(1, 1, 3, 1)]
    assert (tiles.reach(rows), tiles.grain(rows)) == (1 + 2 + 1 + 1, 2)
    assert tiles.grain([Fold(4), Unfold(4)]) == 4


@pytest.mark.parametrize("size", [(96, 128), (75, 91), (40, 200), (1, 1), (3, 70)])
def test_tiles_leave_no_seam(size: tuple[int, int]) -> None:
    """Many small tiles come out as one large one does."""
    network = networks.unet((16, 16, 3), (4, 6))
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in network.tensors().items()}
    run = numpy_engine.runner(network.decoder, weights_of("decoder", tensors))
    pictures = rng.random((2, *size, 3), np.float32)
    whole = tiles.tiled(run, network.decoder, pictures, tile=1000)
    parts = tiles.tiled(run, network.decoder, pictures, tile=24)
    assert whole.shape == pictures.shape
    assert np.abs(whole - pictures).max() > 0.1
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_memory_is_bounded_by_the_tile() -> None:
    network = networks.unet((16, 16, 1), (4, 6))
    margin = tiles.reach(network.decoder) + tiles.grain(network.decoder)
    seen: list[tuple[int, ...]] = []

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch.shape)
        return batch

    picture = np.random.default_rng(0).random((1, 300, 500, 1), np.float32)
    np.testing.assert_array_equal(tiles.tiled(run, network.decoder, picture, tile=64), picture)
    assert max(max(shape[1:3]) for shape in seen) <= 64 + 2 * margin
