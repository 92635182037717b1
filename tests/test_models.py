from itertools import pairwise
from typing import Any

import pytest

from vaectl import models
from vaectl.models import Settings


def test_what_is_left_open_is_chosen_by_the_pictures() -> None:
    def chosen(pictures: int, **given: Any) -> Settings:
        return models.settings("mlp", pictures, beta=1.0, corrupt=(), **given)

    assert (chosen(60000).epochs, chosen(60000).batch_size) == (15, 256)
    assert chosen(60000).lr == pytest.approx(0.005, rel=0.02)
    assert chosen(60000, epochs=2).lr == pytest.approx(0.01)
    assert chosen(60000, epochs=2, lr=0.3).lr == 0.3
    assert chosen(60000, batch_size=64, epochs=1).lr < chosen(60000, epochs=1).lr
    assert chosen(60000, epochs=2, widest=6144).lr < 0.003
    few = chosen(100)
    assert few.batch_size == 100
    assert few.epochs * (100 // few.batch_size) >= 1000


@pytest.mark.parametrize(
    ("model", "picture", "latent"),
    [
        ("vae", (28, 28, 1), 10),
        ("dae", (28, 28, 1), 128),
        ("vae", (32, 32, 3), 128),
        ("ae", (64, 64, 1), 128),
        ("ae", (8, 8, 1), 32),
        ("vae", (1, 1, 1), 1),
    ],
)
def test_natural_pictures_have_a_larger_latent_and_tiny_ones_a_smaller(
    model: str, picture: tuple[int, int, int], latent: int
) -> None:
    assert models.usual_latent(model, picture) == latent


@pytest.mark.parametrize("size", [16, 28, 64, 128, 256])
def test_convolutions_take_equally_long_at_every_scale_and_end_at_eight_pixels(size: int) -> None:
    widths = models.conv_widths((size, size, 3))
    assert 4 <= size / 2 ** len(widths) <= 8
    assert all(later == 2 * earlier for earlier, later in pairwise(widths))
