from typing import Any

import pytest

from vaectl.training.plan import choose_config
from vaectl.training.settings import Hyperparameters, TrainConfig


def config(
    n_images: int = 60000,
    architecture: str = "mlp",
    max_fan_in: int = 1,
    image_shape: tuple[int, int, int] = (1, 1, 1),
    **given: Any,
) -> TrainConfig:
    return choose_config(Hyperparameters(beta=1.0, corrupt=(), **given), architecture, n_images, max_fan_in, image_shape)


def test_the_defaults_for_mnist() -> None:
    assert (config().epochs, config().batch_size) == (15, 256)
    assert config().lr == pytest.approx(0.005, rel=0.02)


def test_small_data_sets_are_trained_for_more_epochs() -> None:
    few = config(100)
    assert few.batch_size == 100
    assert few.epochs * (100 // few.batch_size) >= 1000


@pytest.mark.parametrize(
    ("n_images", "architecture", "image_shape", "shift"),
    [
        (60000, "mlp", (28, 28, 1), 0),
        (2000, "mlp", (28, 28, 1), 1),
        (2000, "mlp", (8, 8, 1), 0),
        (2000, "conv", (28, 28, 1), 1),
        (2000, "conv", (64, 96, 3), 4),
        (20000, "conv", (64, 64, 3), 0),
        (50, "unet", (64, 64, 3), 0),
    ],
)
def test_few_images_are_moved_by_default(n_images: int, architecture: str, image_shape: tuple[int, int, int], shift: int) -> None:
    assert config(n_images, architecture, image_shape=image_shape).shift == shift
    assert config(n_images, architecture, image_shape=image_shape, epochs=200).shift == shift
    assert config(n_images, architecture, image_shape=image_shape, shift=3).shift == 3


def test_convolutions_learn_digits_in_larger_batches() -> None:
    digits, photos = (config(architecture="conv", image_shape=shape) for shape in ((28, 28, 1), (64, 64, 3)))
    assert (digits.batch_size, photos.batch_size) == (256, 32)
    assert digits.lr > photos.lr


def test_given_settings_override_the_defaults() -> None:
    given = config(epochs=2, batch_size=7, lr=0.3, samples=4, seed=5)
    assert (given.epochs, given.batch_size, given.lr, given.samples, given.seed) == (2, 7, 0.3, 4, 5)


def test_shorter_runs_and_larger_batches_have_a_higher_learning_rate() -> None:
    assert config(epochs=2).lr == pytest.approx(0.01)
    assert config(epochs=2).lr > config(epochs=4).lr
    assert config(epochs=1, batch_size=256).lr > config(epochs=1, batch_size=64).lr


def test_wide_networks_have_a_lower_learning_rate() -> None:
    assert config(epochs=2, max_fan_in=6144).lr < 0.003


def test_a_gaussian_likelihood_has_a_lower_learning_rate_in_wide_networks() -> None:
    gaussian, bernoulli = (config(epochs=2, likelihood=name, max_fan_in=6144).lr for name in ("gaussian", "bernoulli"))
    assert gaussian < bernoulli
    assert config(epochs=2, likelihood="gaussian").lr == config(epochs=2).lr


@pytest.mark.parametrize(("architecture", "betas"), [("mlp", (0.9, 0.95)), ("conv", (0.9, 0.95)), ("unet", (0.9, 0.99))])
def test_each_architecture_has_its_own_betas(architecture: str, betas: tuple[float, float]) -> None:
    assert config(architecture=architecture).betas == betas
