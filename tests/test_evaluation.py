import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaectl import corruption, evaluation, networks
from vaectl.evaluation import Judge, Measure, Spread
from vaectl.networks import Network
from vaectl.objective import Bernoulli, Gaussian


def blank(network: Network) -> dict[str, NDArray[np.float32]]:
    """Weights of zero: every latent is 0 with variance 1, every pixel is 0.5."""
    return {name: np.zeros(shape, np.float32) for name, shape in network.tensors().items()}


def judge(network: Network, tensors: dict[str, NDArray[np.float32]]) -> Judge:
    return Judge(network, tensors, Bernoulli(), "cpu")


def test_figures_of_a_model_that_knows_nothing() -> None:
    network = networks.mlp((4, 4, 1), 3, [5], variational=True)
    pictures = np.array([np.zeros((4, 4, 1)), np.full((4, 4, 1), 255)], np.uint8)
    found = judge(network, blank(network)).figures(pictures, Measure(samples=20))
    guess = 16 * math.log(2)
    expected = {"neg_elbo": guess, "reconstruction": guess, "kl": 0, "nll": guess, "mse": 0.25, "psnr": 10 * math.log10(4)}
    assert evaluation.means(found) == pytest.approx(expected)


def test_the_kl_is_summed_over_dimensions_and_averaged_over_pictures() -> None:
    network = networks.mlp((4, 4, 1), 3, [5], variational=True)
    tensors = blank(network)
    tensors["encoder.3.bias"][:] = [2, 0, 0, 0, 0, 0]  # mu = (2, 0, 0), logvar = 0
    found = evaluation.means(judge(network, tensors).figures(np.zeros((1500, 4, 4, 1), np.uint8), Measure(samples=3000)))
    assert found["kl"] == pytest.approx(2)
    assert found["neg_elbo"] == pytest.approx(found["reconstruction"] + 2)
    # The decoder does not look at z, so that the likelihood is known: only the bound pays for the KL.
    assert found["nll"] == pytest.approx(16 * math.log(2), abs=0.05)


def test_a_gaussian_likelihood_is_judged_with_its_sigma() -> None:
    network = networks.mlp((4, 4, 1), 3, [5], variational=True)
    found = Judge(network, blank(network), Gaussian(0.5), "cpu").figures(np.zeros((3, 4, 4, 1), np.uint8), Measure())
    assert found["reconstruction"][0] == pytest.approx(16 * (0.5 + math.log(0.5 * math.sqrt(2 * math.pi))))


def test_spoiled_pictures_are_judged_against_the_clean_ones() -> None:
    network = networks.mlp((20, 20, 1), 3, [5], variational=False)
    pictures = np.full((10, 20, 20, 1), 128, np.uint8)
    measure = Measure(corruption.parse(["gaussian:0.1"]), samples=100, ssim=True)
    found = evaluation.means(judge(network, blank(network)).figures(pictures, measure))
    assert found["psnr_before"] == pytest.approx(20, abs=0.3)
    assert found["psnr"] > 50
    assert found["ssim_before"] < 0.3
    assert found["ssim"] == pytest.approx(1, abs=1e-3)
    assert "nll" not in found


def test_binarized_pictures_are_black_and_white_by_their_grey() -> None:
    network = networks.mlp((30, 30, 1), 3, [5], variational=True)
    found = judge(network, blank(network)).figures(np.full((4, 30, 30, 1), 51, np.uint8), Measure(binarize=True))
    np.testing.assert_allclose(found["mse"], 0.25)


def test_latent_statistics_and_active_units_are_those_of_mu() -> None:
    network = networks.mlp((4, 4, 1), 2, [], variational=True)
    tensors = blank(network)
    tensors["encoder.1.weight"][0] = 1  # the first dimension sums the pixels, the second is always -2
    tensors["encoder.1.bias"][:] = [0, -2, 7, 7]
    pictures = np.zeros((30, 4, 4, 1), np.uint8)
    pictures[::2] = 255
    found = judge(network, tensors).latent_statistics(pictures)
    assert found.mean == pytest.approx([8, -2])
    assert found.std == pytest.approx([8, 0])
    spread = Spread()
    for half in (pictures[:11], pictures[11:]):
        spread.add(judge(network, tensors).latents(half))
    assert spread.active_units() == 1


def test_ssim_is_one_for_the_same_picture_and_none_for_noise() -> None:
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 32, 24, 3, generator=random)
    torch.testing.assert_close(evaluation.ssim(pictures, pictures), torch.ones(3))
    assert (evaluation.ssim(torch.rand(3, 32, 24, 3, generator=random), pictures) < 0.1).all()


def test_ssim_is_that_of_its_definition() -> None:
    """Window by window, with sums written out."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 14, 13))
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for top in range(4):
        for left in range(3):
            one, other = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_one, mean_other = (window * one).sum(), (window * other).sum()
            var_one, var_other = (window * (one - mean_one) ** 2).sum(), (window * (other - mean_other) ** 2).sum()
            both = (window * (one - mean_one) * (other - mean_other)).sum()
            likeness = (2 * mean_one * mean_other + 1e-4) * (2 * both + 9e-4)
            values.append(likeness / ((mean_one**2 + mean_other**2 + 1e-4) * (var_one + var_other + 9e-4)))
    found = evaluation.ssim(*(torch.from_numpy(part[None, ..., None]).float() for part in (x, y)))
    assert found.item() == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (10, 10)])
def test_ssim_of_small_pictures_takes_a_smaller_window(size: tuple[int, int]) -> None:
    assert evaluation.ssim(torch.zeros(1, *size, 1), torch.zeros(1, *size, 1)).tolist() == [1]
