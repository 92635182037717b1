"""The metrics of a model, per image: the negative ELBO and its parts, the NLL, MSE, PSNR and SSIM; and its active units."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from vaectl.base.arrays import Array, UInt8Array
from vaectl.images.corruption import Corruption, apply_corruptions
from vaectl.images.noise import Expert, Noise, choose_expert
from vaectl.models.mixture import Mixture
from vaectl.models.network import Network, half_weights, split_pairs
from vaectl.models.tiling import run_tiled
from vaectl.models.torch_engine import TorchRandom, build_module, translate_memory_errors
from vaectl.training import losses
from vaectl.training.fit_mixture import GaussianMixture
from vaectl.training.losses import Likelihood, LogDensity

# The metrics of images by name, (N,) each.
Metrics = dict[str, NDArray[np.float64]]

# Pixel values that pass through the network together, which bounds memory: 500 digits to evaluate, and for importance sampling
# thousands of latents, of 10 digits or more.
MAX_VALUES, MAX_DECODED_VALUES = 500 * 784, 2048 * 784
MIN_SAMPLED_IMAGES = 10
ACTIVE_VARIANCE = 0.01
MIN_STD = 1e-9  # of equal scores


@dataclass(frozen=True)
class EvalConfig:
    """What is computed, and how.

    `samples` is K of importance sampling, 0 for no NLL. With `binarize` each pixel is sampled once as 0 or 1, with its gray value
    as the probability.
    """

    corruptions: Sequence[Corruption] = ()
    samples: int = 0
    binarize: bool = False
    ssim: bool = False
    seed: int = 0


class Evaluator:
    """A network on a device, ready to be evaluated on images (N, H, W, C), 0 to 255."""

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, Array],
        likelihood: Likelihood,
        device: str,
        config: EvalConfig,
        prior: Mixture | None = None,
        experts: Sequence[Expert] = (),
    ) -> None:
        self.network = network
        self.log_priors: dict[str, LogDensity] = {"": losses.log_normal}
        if prior and network.variational:
            self.log_priors["_learned"] = make_log_density(prior, device)
        self.likelihood = likelihood
        self.config = config
        self.device = device
        self.random = TorchRandom(Generator(device).manual_seed(config.seed))
        self.encoder, self.decoder = (
            build_module(layers, half_weights(half, weights)).to(device) for half, layers in network.halves()
        )
        self.experts = [
            (expert, build_module(network.decoder, half_weights("decoder", expert.weights)).to(device)) for expert in experts
        ]

    def compute_metrics(self, images: UInt8Array) -> Iterator[tuple[Metrics, Array]]:
        """The metrics of every image, or pair, and its z, or mu, (N, D), a few at a time; D is 0 without a latent.

        `neg_elbo` = `reconstruction` + `kl`, nats per image, for one z ~ q(z|x); `nll`, nats, by importance sampling (VAE only);
        both under N(0, I), and as `neg_elbo_learned` and `nll_learned` under the learned prior, if there is one;
        `mse`, on pixels in [0, 1], `psnr`, dB, and `ssim` of the reconstruction from mu. With corruptions, or of pairs, these
        compare the denoised image with the clean one, and `mse_before`, `psnr_before`, `ssim_before` the corrupted image.
        """
        size = self.batch_size(MAX_VALUES)
        if self.config.samples and self.network.variational:
            latents = self.batch_size(MAX_DECODED_VALUES)
            size = min(size, latents, max(MIN_SAMPLED_IMAGES, latents // self.config.samples))
        for part in torch.from_numpy(images).split(size):
            with torch.inference_mode(), translate_memory_errors("use smaller images, or --device cpu"):
                clean, corrupted = self.prepare(part)
                encoded = self.encoder(corrupted) if self.network.has_latent else clean.new_zeros(len(clean), 0)
                mu, logvar = encoded[:, : self.network.latent_dim], encoded[:, self.network.latent_dim :]
                metrics = dict(self.batch_metrics(clean, corrupted, mu, logvar))
            yield {name: values.cpu().double().numpy() for name, values in metrics.items()}, mu.cpu().numpy()

    def prepare(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The clean images, and those to encode, (N, H, W, C) in [0, 1]; the same tensor if nothing corrupts them."""
        both = images.to(self.device).float() / 255
        if self.config.binarize:
            both = self.random.binarize(both)
        clean, given = split_pairs(both, self.network)
        return clean, apply_corruptions(self.config.corruptions, given, self.random)

    @torch.inference_mode()
    def reconstruct(self, images: UInt8Array) -> Array:
        """The clean images, the corrupted ones if any, and the reconstructions from mu, (2 N, H, W, C) or (3 N, H, W, C)."""
        clean, corrupted = self.prepare(torch.from_numpy(images))
        if self.network.has_latent:
            output = self.decoder(self.encoder(corrupted)[:, : self.network.latent_dim])
        else:
            output = run_tiled(self.decoder, self.network.decoder, corrupted)
        stacks: Array = torch.cat([clean, *([corrupted] if corrupted is not clean else []), output]).cpu().numpy()
        return stacks

    def denoised_logits(self, corrupted: Tensor) -> Iterator[Tensor]:
        """The logits of a network without a latent; with experts, of one photo after another."""
        for photos in corrupted.split(1) if self.experts else [corrupted]:
            sigma = Noise(photos[0].cpu().numpy()).white_sigma if self.experts else 0.0
            decoder = choose_expert(sigma, self.decoder, self.experts)
            yield run_tiled(decoder[:-1], self.network.decoder, photos)

    def batch_metrics(self, clean: Tensor, corrupted: Tensor, mu: Tensor, logvar: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The metrics of one batch, (N,) each."""
        z, kl = mu, mu.new_zeros(len(mu))
        if self.network.variational:
            z, kl = losses.reparameterize(mu, logvar, self.random.normal(tuple(mu.shape))), losses.kl_divergence(mu, logvar)
        if self.network.has_latent:
            output, reconstruction = self.decoder(mu), self.likelihood.nll(self.decoder[:-1](z), clean)
        else:
            logits = torch.cat([*self.denoised_logits(corrupted)])
            output, reconstruction = self.decoder[-1](logits), self.likelihood.nll(logits, clean)
        yield from (("neg_elbo", losses.neg_elbo(reconstruction, kl)), ("reconstruction", reconstruction), ("kl", kl))
        for name, log_prior in self.log_priors.items():
            if name:  # log p(z) differs, for the same z ~ q(z|x)
                yield f"neg_elbo{name}", losses.neg_elbo(reconstruction, kl) + losses.log_normal(z) - log_prior(z)
        if self.config.samples and self.network.variational:
            nlls = losses.importance_nlls(
                mu,
                logvar,
                self.log_likelihood_of(clean),
                [*self.log_priors.values()],
                self.config.samples,
                self.random.normal,
                self.batch_size(MAX_DECODED_VALUES),
            )
            yield from ((f"nll{name}", nll) for name, nll in zip(self.log_priors, nlls, strict=True))
        yield from compare(output, clean, "", with_ssim=self.config.ssim)
        if corrupted is not clean:
            yield from compare(corrupted, clean, "_before", with_ssim=self.config.ssim)

    def batch_size(self, max_values: int) -> int:
        """How many images have at most `max_values` values."""
        return max(1, max_values // prod(self.network.image_shape))

    def log_likelihood_of(self, clean: Tensor) -> Callable[[Tensor], Tensor]:
        """The function from latents (N, K, D) to log p(x|z), (N, K) nats."""

        def log_likelihood(z: Tensor) -> Tensor:
            logits = self.decoder[:-1](z.flatten(0, 1))
            return -self.likelihood.nll(logits, losses.repeat(clean, z.shape[1])).view(z.shape[:2])

        return log_likelihood

    @torch.inference_mode()
    def encode(self, images: UInt8Array) -> Array:
        """z, or mu and logvar, of clean images, (N, D) or (N, 2 D); D is 0 without a latent."""
        if not self.network.has_latent:
            return np.zeros((len(images), 0), np.float32)
        batches = torch.from_numpy(images).split(self.batch_size(MAX_VALUES))
        z: Array = torch.cat([self.encoder(batch.to(self.device).float() / 255).cpu() for batch in batches]).numpy()
        return z


def make_log_density(prior: Mixture, device: str) -> LogDensity:
    """log p(z) of a mixture in torch, for latents (..., D), in nats."""
    weights, means, factors = (torch.from_numpy(array).to(device) for array in (prior.weights, prior.means, prior.factors))
    mixture = GaussianMixture(weights, means, factors)
    dims = torch.from_numpy(prior.dims).to(device)
    others = torch.from_numpy(np.delete(np.arange(prior.latent_dim), prior.dims)).to(device)

    def log_density(z: Tensor) -> Tensor:
        flat = z.flatten(0, -2)
        active = torch.logsumexp(mixture.log_joint(flat[:, dims]), 1)
        return (active + losses.log_normal(flat[:, others])).view(z.shape[:-1])

    return log_density


class AverageMeter:
    """The mean of each metric over all images."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def update(self, metrics: Metrics) -> None:
        """Add more images."""
        self.count += len(metrics["mse"])
        for name, values in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.sum())

    @classmethod
    def merge(cls, meters: Sequence["AverageMeter"]) -> "AverageMeter":
        """The meter of all images of several."""
        merged = cls()
        for meter in meters:
            merged.count += meter.count
            for name, total in meter.sums.items():
                merged.sums[name] = merged.sums.get(name, 0.0) + total
        return merged

    def means(self) -> dict[str, float]:
        """The mean of each metric."""
        return {name: total / self.count for name, total in self.sums.items()}


def mean_metrics(evaluator: Evaluator, images: UInt8Array) -> dict[str, float]:
    """The mean metrics of images."""
    meter = AverageMeter()
    for metrics, _ in evaluator.compute_metrics(images):
        meter.update(metrics)
    return meter.means()


def image_metrics(evaluator: Evaluator, images: UInt8Array) -> Metrics:
    """The metrics of every image."""
    return join_metrics([metrics for metrics, _ in evaluator.compute_metrics(images)])


def join_metrics(parts: Sequence[Metrics]) -> Metrics:
    """The metrics of all images of several parts, of which there is at least one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def standardize(scores: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """The z-score of each score in its group, (N,): how many standard deviations it is above the group's mean."""
    z, labels = np.zeros_like(scores), np.array(groups)
    for group in set(groups):
        own = scores[labels == group]
        z[labels == group] = (own - own.mean()) / max(own.std(), MIN_STD)
    return z


class RunningVariance:
    """The variance of each latent dimension over all images."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Any = 0.0
        self.sum_of_squares: Any = 0.0

    def update(self, z: Array) -> None:
        """Add more latents, (N, D)."""
        self.count += len(z)
        self.sum = self.sum + z.sum(0, np.float64)
        self.sum_of_squares = self.sum_of_squares + np.square(z, dtype=np.float64).sum(0)

    @classmethod
    def merge(cls, variances: Sequence["RunningVariance"]) -> "RunningVariance":
        """The variance over all images of several."""
        merged = cls()
        for variance in variances:
            merged.count += variance.count
            merged.sum = merged.sum + variance.sum
            merged.sum_of_squares = merged.sum_of_squares + variance.sum_of_squares
        return merged

    def active_units(self) -> int:
        """The number of dimensions whose mu has a variance above 0.01 (Burda et al. 2016, section 4.2)."""
        return int((self.sum_of_squares / self.count - (self.sum / self.count) ** 2 > ACTIVE_VARIANCE).sum())


def compare(images: Tensor, clean: Tensor, suffix: str, *, with_ssim: bool) -> Iterator[tuple[str, Tensor]]:
    """`mse`, `psnr` and `ssim` between images and the clean ones, (N,) each."""
    mse = (images - clean).square().flatten(1).mean(1)
    yield f"mse{suffix}", mse
    yield f"psnr{suffix}", -10 * mse.clamp(min=1e-10).log10()
    if with_ssim:
        yield f"ssim{suffix}", ssim(images, clean)


def ssim(images: Tensor, clean: Tensor) -> Tensor:
    """The structural similarity of each image with the clean one, (N,), at most 1 (Wang et al. 2004).

    With the paper's settings: a Gaussian window of 11 pixels, sigma 1.5, without padding, or the largest odd window that fits a
    smaller image; K1 = 0.01, K2 = 0.03, peak 1; the mean over channels.
    """
    width = min(11, *((size - 1) // 2 * 2 + 1 for size in clean.shape[1:3]))
    offsets = torch.arange(width, device=clean.device) - width // 2
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (line[:, None] * line)[None, None] / line.sum() ** 2
    x, y = (part.permute(0, 3, 1, 2).flatten(0, 1)[:, None] for part in (images, clean))

    def blur(values: Tensor) -> Tensor:
        return functional.conv2d(values, window)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    contrast_and_structure = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
    return (luminance * contrast_and_structure).flatten(1).mean(1).view(len(clean), -1).mean(1)
