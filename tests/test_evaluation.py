import math

import numpy as np
import pytest
from numpy.typing import NDArray

from vaectl import evaluation, networks
from vaectl.networks import Network


def blank(network: Network) -> dict[str, NDArray[np.float32]]:
    """Weights of zero: every latent is 0 with variance 1, every pixel is 0.5."""
    return {name: np.zeros(shape, np.float32) for name, shape in network.tensors().items()}


def test_figures_of_a_model_that_knows_nothing() -> None:
    network = networks.mlp((4, 4, 1), 3, [5], variational=True)
    pictures = np.array([np.zeros((4, 4, 1)), np.full((4, 4, 1), 255)], np.uint8)
    found = evaluation.figures(network, blank(network), pictures, (), "cpu", 0)
    assert found == pytest.approx(
        {"neg_elbo": 16 * math.log(2), "reconstruction": 16 * math.log(2), "kl": 0, "mse": 0.25, "psnr": 10 * math.log10(4)}
    )


def test_the_kl_is_summed_over_dimensions_and_averaged_over_pictures() -> None:
    network = networks.mlp((4, 4, 1), 3, [5], variational=True)
    tensors = blank(network)
    tensors["encoder.3.bias"][:] = [2, 0, 0, 0, 0, 0]  # mu = (2, 0, 0), logvar = 0
    found = evaluation.figures(network, tensors, np.zeros((1500, 4, 4, 1), np.uint8), (), "cpu", 0)
    assert found["kl"] == pytest.approx(2)
    assert found["neg_elbo"] == pytest.approx(found["reconstruction"] + 2)


def test_spoiled_pictures_are_judged_against_the_clean_ones() -> None:
    network = networks.mlp((20, 20, 1), 3, [5], variational=False)
    pictures = np.full((10, 20, 20, 1), 128, np.uint8)
    found = evaluation.figures(network, blank(network), pictures, ("gaussian:0.1",), "cpu", 0)
    assert found["psnr_before"] == pytest.approx(20, abs=0.3)
    assert found["psnr"] > 50


def test_latent_statistics_are_those_of_mu() -> None:
    network = networks.mlp((4, 4, 1), 2, [5], variational=True)
    tensors = blank(network)
    tensors["encoder.3.bias"][:] = [1, -2, 7, 7]
    found = evaluation.latent_statistics(network, tensors, np.zeros((30, 4, 4, 1), np.uint8), "cpu")
    assert found.mean == [1, -2]
    assert found.std == [0, 0]
