import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaectl.images.corruption import parse_corruptions
from vaectl.io.inputs import read_image_file
from vaectl.models.latents import compute_stats
from vaectl.models.network import Network, build_mlp, build_unet
from vaectl.training import metrics
from vaectl.training.losses import Bernoulli, Gaussian, Likelihood
from vaectl.training.metrics import AverageMeter, EvalConfig, Evaluator, Metrics, RunningVariance


def means(found: Metrics) -> dict[str, float]:
    """The mean of each metric."""
    meter = AverageMeter()
    meter.update(found)
    return meter.means()


def zero_weights(network: Network) -> dict[str, NDArray[np.float32]]:
    """Weights of zero: every latent is 0 with variance 1, every pixel is 0.5."""
    return {name: np.zeros(shape, np.float32) for name, shape in network.weight_shapes().items()}


def compute_metrics(
    network: Network,
    weights: dict[str, NDArray[np.float32]],
    images: NDArray[np.uint8],
    config: EvalConfig = EvalConfig(),  # noqa: B008 - it is frozen
    likelihood: Likelihood | None = None,
) -> Metrics:
    parts = [
        metrics for metrics, _ in Evaluator(network, weights, likelihood or Bernoulli(), "cpu", config).compute_metrics(images)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_metrics_of_a_model_with_zero_weights() -> None:
    network = build_mlp((4, 4, 1), 3, [5], variational=True)
    images = np.array([np.zeros((4, 4, 1)), np.full((4, 4, 1), 255)], np.uint8)
    found = compute_metrics(network, zero_weights(network), images, EvalConfig(samples=20))
    expected_nll = 16 * math.log(2)
    expected = {"neg_elbo": expected_nll, "reconstruction": expected_nll, "kl": 0, "nll": expected_nll, "mse": 0.25}
    assert means(found) == pytest.approx(expected | {"psnr": 10 * math.log10(4)})


def test_the_kl_is_summed_over_dimensions_and_averaged_over_images() -> None:
    network = build_mlp((4, 4, 1), 3, [5], variational=True)
    weights = zero_weights(network)
    weights["encoder.3.bias"][:] = [2, 0, 0, 0, 0, 0]  # mu = (2, 0, 0), logvar = 0
    found = means(compute_metrics(network, weights, np.zeros((1500, 4, 4, 1), np.uint8), EvalConfig(samples=3000)))
    assert found["kl"] == pytest.approx(2)
    assert found["neg_elbo"] == pytest.approx(found["reconstruction"] + 2)
    # The decoder ignores z, so the likelihood is known, and only the bound includes the KL.
    assert found["nll"] == pytest.approx(16 * math.log(2), abs=0.05)


def test_the_reconstruction_under_a_gaussian_likelihood_depends_on_its_sigma() -> None:
    network = build_mlp((4, 4, 1), 3, [5], variational=True)
    images = np.zeros((3, 4, 4, 1), np.uint8)
    found = compute_metrics(network, zero_weights(network), images, likelihood=Gaussian(0.5))
    assert found["reconstruction"][0] == pytest.approx(16 * (0.5 + math.log(0.5 * math.sqrt(2 * math.pi))))


def test_corrupted_and_denoised_images_are_compared_with_the_clean_ones() -> None:
    network = build_mlp((20, 20, 1), 3, [5], variational=False)
    images = np.full((10, 20, 20, 1), 128, np.uint8)
    config = EvalConfig(parse_corruptions(["gaussian:0.1"], read_image_file), samples=100, ssim=True)
    found = means(compute_metrics(network, zero_weights(network), images, config))
    assert found["psnr_before"] == pytest.approx(20, abs=0.3)
    assert found["psnr"] > 50
    assert found["ssim_before"] < 0.3
    assert found["ssim"] == pytest.approx(1, abs=1e-3)
    assert "nll" not in found


def test_binarized_images_are_black_and_white() -> None:
    network = build_mlp((30, 30, 1), 3, [5], variational=True)
    images = np.full((4, 30, 30, 1), 51, np.uint8)
    found = compute_metrics(network, zero_weights(network), images, EvalConfig(binarize=True))
    np.testing.assert_allclose(found["mse"], 0.25)


def test_latents_and_active_units_are_those_of_mu() -> None:
    network = build_mlp((4, 4, 1), 2, [], variational=True)
    weights = zero_weights(network)
    weights["encoder.1.weight"][0] = 1  # the first dimension sums the pixels, the second is always -2
    weights["encoder.1.bias"][:] = [0, -2, 7, 7]
    images = np.zeros((30, 4, 4, 1), np.uint8)
    images[::2] = 255
    evaluator = Evaluator(network, weights, Bernoulli(), "cpu", EvalConfig())
    stats = compute_stats(evaluator.encode(images)[:, :2])
    assert stats.mean == pytest.approx([8, -2])
    assert stats.std == pytest.approx([8, 0])
    variance = RunningVariance()
    for part in (images[:11], images[11:]):
        for _, mu in evaluator.compute_metrics(part):
            variance.update(mu)
    assert variance.active_units() == 1


def test_a_unet_has_no_latents_and_keeps_the_size_of_its_images() -> None:
    network = build_unet((8, 8, 1), [2, 4])
    evaluator = Evaluator(network, zero_weights(network), Bernoulli(), "cpu", EvalConfig())
    images = np.random.default_rng(0).integers(0, 256, (2, 11, 13, 1), np.uint8)
    assert evaluator.encode(images).shape == (2, 0)
    # With zero weights it predicts no residual: the output is the input.
    assert means(compute_metrics(network, zero_weights(network), images))["mse"] == pytest.approx(0)


def test_an_average_meter_weighs_every_image_equally() -> None:
    meter = AverageMeter()
    meter.update({"mse": np.array([1.0, 2.0, 3.0]), "kl": np.zeros(3)})
    meter.update({"mse": np.array([6.0]), "kl": np.ones(1)})
    assert meter.count == 4
    assert meter.means() == {"mse": 3.0, "kl": 0.25}


def test_ssim_is_one_for_equal_images_and_near_zero_for_noise() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, 32, 24, 3, generator=random)
    torch.testing.assert_close(metrics.ssim(images, images), torch.ones(3))
    assert (metrics.ssim(torch.rand(3, 32, 24, 3, generator=random), images) < 0.1).all()


def test_ssim_follows_its_definition() -> None:
    """The definition, written out window by window."""
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
            covariance = (window * (one - mean_one) * (other - mean_other)).sum()
            similarity = (2 * mean_one * mean_other + 1e-4) * (2 * covariance + 9e-4)
            values.append(similarity / ((mean_one**2 + mean_other**2 + 1e-4) * (var_one + var_other + 9e-4)))
    found = metrics.ssim(*(torch.from_numpy(part[None, ..., None]).float() for part in (x, y)))
    assert found.item() == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (10, 10)])
def test_ssim_of_small_images_uses_a_smaller_window(size: tuple[int, int]) -> None:
    assert metrics.ssim(torch.zeros(1, *size, 1), torch.zeros(1, *size, 1)).tolist() == [1]
