from itertools import pairwise

import pytest

from vaectl.models import presets
from vaectl.models.layers import Linear


@pytest.mark.parametrize(
    ("model", "image_shape", "latent_dim"),
    [
        ("vae", (28, 28, 1), 10),
        ("dae", (28, 28, 1), 128),
        ("vae", (32, 32, 3), 128),
        ("ae", (64, 64, 1), 128),
        ("ae", (8, 8, 1), 32),
        ("vae", (1, 1, 1), 1),
    ],
)
def test_natural_images_have_a_larger_latent_and_tiny_ones_a_smaller(
    model: str, image_shape: tuple[int, int, int], latent_dim: int
) -> None:
    assert presets.default_latent_dim(model, image_shape) == latent_dim


@pytest.mark.parametrize(
    ("image_shape", "architecture", "likelihood"),
    [
        ((28, 28, 1), "mlp", "bernoulli"),
        ((32, 32, 1), "mlp", "bernoulli"),
        ((28, 33, 1), "conv", "gaussian"),
        ((28, 28, 3), "conv", "gaussian"),
    ],
)
def test_the_architecture_and_the_likelihood_suit_the_images(
    image_shape: tuple[int, int, int], architecture: str, likelihood: str
) -> None:
    assert presets.default_architecture(image_shape) == architecture
    assert presets.default_likelihood(architecture, image_shape) == likelihood
    assert presets.default_likelihood("unet", image_shape) == "gaussian"


@pytest.mark.parametrize("size", [16, 28, 64, 128, 256])
def test_convolutions_halve_images_to_about_eight_pixels_and_double_their_channels(size: int) -> None:
    widths = presets.default_conv_widths((size, size, 3))
    assert 4 <= size / 2 ** len(widths) <= 8
    assert all(later == 2 * earlier for earlier, later in pairwise(widths))


@pytest.mark.parametrize(
    ("image_shape", "latent_dim", "variational", "layers"),
    [
        ((28, 28, 1), 10, True, 3),
        ((28, 28, 1), 50, True, 3),
        ((28, 28, 1), 32, False, 2),
        ((28, 28, 1), 64, False, 1),
        ((64, 64, 3), 32, True, 2),
        ((64, 64, 3), 128, True, 1),
    ],
)
def test_a_latent_that_keeps_little_has_hidden_layers_before_it(
    image_shape: tuple[int, int, int], latent_dim: int, variational: bool, layers: int
) -> None:
    network = presets.build_network("vae", "conv", image_shape, latent_dim, variational=variational)
    for half in (network.encoder, network.decoder):
        assert sum(isinstance(layer, Linear) for layer in half) == layers


@pytest.mark.parametrize(("architecture", "has_latent"), [("mlp", True), ("conv", True), ("unet", False)])
def test_every_architecture_builds_with_its_default_sizes(architecture: str, has_latent: bool) -> None:
    network = presets.build_network("ae", architecture, (64, 64, 3), 5, variational=False)
    assert network.image_shape == (64, 64, 3)
    assert network.has_latent == has_latent
