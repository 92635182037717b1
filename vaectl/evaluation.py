"""How good a model is, in nats and in dB, and where its latents lie."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from vaectl import corruption, latents, objective
from vaectl.corruption import Corruption
from vaectl.engines.torch import TorchDraw, module
from vaectl.latents import LatentStatistics
from vaectl.networks import Network, weights_of
from vaectl.objective import Likelihood
from vaectl.tiles import tiled

Tensors = Mapping[str, NDArray[np.float32]]
Bytes = NDArray[np.uint8]
# The figures of each picture by name, (N,) each.
Figures = dict[str, NDArray[np.float64]]

# Values of pictures that go through the network together, which bounds what lies between its layers: 500 digits to be measured
# are, and 10 digits of which thousands of latents are decoded.
AT_ONCE, DECODED_AT_ONCE = 500 * 784, 2048 * 784
FEW = 10
ACTIVE = 0.01


@dataclass(frozen=True)
class Measure:
    """What is measured, and how.

    `samples` is the K of importance sampling, 0 for none; with `binarize` each pixel is drawn once as white or black, with its
    grey value as probability.
    """

    corruptions: tuple[Corruption, ...] = ()
    samples: int = 0
    binarize: bool = False
    ssim: bool = False
    seed: int = 0


class Judge:
    """A network on a device, ready to be measured on pictures, (N, H, W, C) bytes."""

    def __init__(self, network: Network, tensors: Tensors, likelihood: Likelihood, device: str) -> None:
        self.network = network
        self.device = device
        self.likelihood = likelihood
        self.encoder, self.decoder = (module(rows, weights_of(half, tensors)).to(device) for half, rows in network.halves())

    def figures(self, pictures: Bytes, measure: Measure) -> Figures:
        """Every figure of every picture, as `measured`."""
        parts = list(self.measured([pictures], measure))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def measured(self, batches: Iterable[Bytes], measure: Measure) -> Iterator[Figures]:
        """Every figure of every picture, a few pictures at a time.

        `neg_elbo` = `reconstruction` + `kl`, nats an image, for one z ~ q(z|x); `nll`, nats, by importance sampling (a VAE's);
        `mse`, over pixels in [0, 1], `psnr`, dB, and `ssim` of the reconstruction from mu. With corruptions, these compare what
        is made of the spoiled picture with the clean one, and `psnr_before` and `ssim_before` say how bad the spoiled one is.
        """
        draw = TorchDraw(Generator(self.device).manual_seed(measure.seed), torch.float32)
        sampled = measure.samples and self.network.variational
        size = min(FEW, self.at_once(DECODED_AT_ONCE)) if sampled else self.at_once(AT_ONCE)
        for part in (part for batch in batches for part in torch.from_numpy(batch).split(size)):
            with torch.inference_mode():
                clean = part.to(self.device).float() / 255
                if measure.binarize:
                    clean = draw.binarized(clean)
                rows = dict(self.rows(clean, corruption.applied(measure.corruptions, clean, draw), measure, draw))
            yield {name: values.cpu().double().numpy() for name, values in rows.items()}

    def rows(self, clean: Tensor, spoiled: Tensor, measure: Measure, draw: TorchDraw) -> Iterator[tuple[str, Tensor]]:
        """The figures of one batch, (N,) each."""
        if not self.network.latent:
            logits = tiled(self.decoder[:-1], self.network.decoder, spoiled)
            restored, reconstruction = self.decoder[-1](logits), self.likelihood.nll(logits, clean)
            kl = torch.zeros_like(reconstruction)
        else:
            encoded = self.encoder(spoiled)
            mu, logvar = encoded[:, : self.network.latent], encoded[:, self.network.latent :]
            z, kl = mu, torch.zeros_like(mu[:, 0])
            if self.network.variational:
                z, kl = objective.reparameterized(mu, logvar, draw.normal(tuple(mu.shape))), objective.kl(mu, logvar)
            restored, reconstruction = self.decoder(mu), self.likelihood.nll(self.decoder[:-1](z), clean)
        yield from (("neg_elbo", reconstruction + kl), ("reconstruction", reconstruction), ("kl", kl))
        if measure.samples and self.network.variational:
            bound = self.at_once(DECODED_AT_ONCE)
            yield "nll", objective.importance_nll(mu, logvar, self.log_likelihood_of(clean), measure.samples, draw.normal, bound)
        yield from similarity(restored, clean, "", ssim_too=measure.ssim)
        if measure.corruptions:
            yield from similarity(spoiled, clean, "_before", ssim_too=measure.ssim)

    def at_once(self, values: int) -> int:
        """How many pictures have together so many values."""
        return max(1, values // prod(self.network.picture))

    def log_likelihood_of(self, clean: Tensor) -> Callable[[Tensor], Tensor]:
        """The function that gives log p(x|z), (N, K), of latents (N, K, D)."""

        def log_likelihood(z: Tensor) -> Tensor:
            logits = self.decoder[:-1](z.flatten(0, 1))
            return -self.likelihood.nll(logits, objective.repeated(clean, z.shape[1])).view(z.shape[:2])

        return log_likelihood

    @torch.inference_mode()
    def latents(self, pictures: Bytes) -> NDArray[np.float32]:
        """z, or mu, of pictures, (N, D)."""
        if not self.network.latent:
            return np.zeros((len(pictures), 0), np.float32)
        parts = (
            self.encoder(batch.to(self.device).float() / 255).cpu()
            for batch in torch.from_numpy(pictures).split(self.at_once(AT_ONCE))
        )
        z: NDArray[np.float32] = torch.cat(list(parts))[:, : self.network.latent].numpy()
        return z

    def latent_statistics(self, pictures: Bytes) -> LatentStatistics:
        """Where the latents of pictures lie."""
        return latents.statistics(self.latents(pictures))


class Tally:
    """The mean of each figure over all the pictures that were added."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, figures: Figures) -> None:
        """Take more pictures into account."""
        self.count += len(figures["mse"])
        for name, values in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.sum())

    def means(self) -> dict[str, float]:
        """The mean of each figure."""
        return {name: total / self.count for name, total in self.sums.items()}


class Spread:
    """How much each latent dimension varies over all the pictures that were added."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Any = 0.0
        self.squares: Any = 0.0

    def add(self, z: NDArray[np.float32]) -> None:
        """Take more latents, (N, D), into account."""
        self.count += len(z)
        self.sum = self.sum + z.sum(0, np.float64)
        self.squares = self.squares + np.square(z, dtype=np.float64).sum(0)

    def active_units(self) -> int:
        """The number of dimensions whose mu varies by more than 0.01 (Burda et al. 2016, section 4.2)."""
        return int((self.squares / self.count - (self.sum / self.count) ** 2 > ACTIVE).sum())


def means(figures: Figures) -> dict[str, float]:
    """The mean of each figure over the pictures."""
    return {name: float(values.mean()) for name, values in figures.items()}


def similarity(pictures: Tensor, clean: Tensor, suffix: str, *, ssim_too: bool) -> Iterator[tuple[str, Tensor]]:
    """How like the clean ones pictures are: `mse`, `psnr` and `ssim`, (N,) each."""
    mse = (pictures - clean).square().flatten(1).mean(1)
    yield f"mse{suffix}", mse
    yield f"psnr{suffix}", -10 * mse.clamp(min=1e-10).log10()
    if ssim_too:
        yield f"ssim{suffix}", ssim(pictures, clean)


def ssim(pictures: Tensor, clean: Tensor) -> Tensor:
    """The structural similarity of each picture with its clean one, (N,), at most 1 (Wang et al. 2004).

    The paper's settings: a Gaussian window of 11 pixels with sigma 1.5, or the largest odd one that fits a smaller picture,
    inside the picture alone; K1 = 0.01, K2 = 0.03, the peak 1; the mean over channels.
    """
    width = min(11, *((size - 1) // 2 * 2 + 1 for size in clean.shape[1:3]))
    offsets = torch.arange(width, device=clean.device) - width // 2
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (line[:, None] * line)[None, None] / line.sum() ** 2
    x, y = (part.permute(0, 3, 1, 2).flatten(0, 1)[:, None] for part in (pictures, clean))

    def blurred(values: Tensor) -> Tensor:
        return functional.conv2d(values, window)

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    contrast_and_structure = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
    return (luminance * contrast_and_structure).flatten(1).mean(1).view(len(clean), -1).mean(1)
