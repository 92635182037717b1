"""Fitting a prior to the latents of training images, after training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt, log, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vaectl.prior import Mixture
from vaectl.types import Array

SIZES = (1, 3, 10, 50)  # components to choose from, by held-out likelihood
HELD_OUT_ONE_IN = 10
MIN_HELD_OUT = 10  # latents that can tell which size is better
MAX_LATENTS = 30_000
ITERATIONS = 30
MIN_GAIN = 1e-3  # nats per latent and iteration, below which fitting ends
MIN_SHARE = 5  # latents per component and active dimension
MIN_VARIANCE = 1e-4  # of a component, relative to that of all latents
MAX_CHUNK_VALUES = 1 << 24


def fit_prior(z: Array, seed: int, active: NDArray[np.bool_] | None = None, labels: Sequence[str] = ()) -> Mixture | None:
    """Fit a mixture of full Gaussians to latents (N, D), one of each training image: z for an autoencoder, z ~ q(z|x) for a VAE.

    Its size is that of the best likelihood on latents that were held out; None if there are too few latents for any. `active`,
    (D,), says which dimensions are modelled; `labels`, (N,) if given, become shares of the components. The same seed gives the
    same bits.
    """
    dims = np.flatnonzero(np.ones(z.shape[1], bool) if active is None else active)
    if len(z) < 2 * HELD_OUT_ONE_IN or not len(dims):
        return None
    chosen = np.random.default_rng(seed).permutation(len(z))[:MAX_LATENTS]
    latents = torch.from_numpy(np.ascontiguousarray(z[chosen][:, dims]))
    center, scale = latents.mean(0), latents.std(0).clamp(min=1e-6)
    latents = (latents - center) / scale
    is_train = torch.arange(len(latents)) % HELD_OUT_ONE_IN != 0
    held_out, train = latents[~is_train], latents[is_train]
    _, indices = np.unique(np.array(labels)[chosen] if len(labels) else np.zeros(len(chosen)), return_inverse=True)
    groups = torch.from_numpy(indices)[is_train]
    best, best_likelihood = None, -np.inf
    for size in SIZES:
        if size > 1 and (len(train) < MIN_SHARE * size * len(dims) or len(held_out) < MIN_HELD_OUT):
            break
        fitted = fit_mixture(train, size, seed, groups)
        likelihood = fitted.log_joint(held_out).logsumexp(1).mean().item()
        if likelihood <= best_likelihood:
            break
        best, best_likelihood = fitted, likelihood
    if best is None:
        return None
    weights, means, factors = best.weights, best.means * scale + center, best.factors * scale[:, None]
    shares = np.zeros((len(weights), 0), np.float32)
    prior = Mixture(z.shape[1], dims, weights.numpy(), means.numpy(), factors.numpy(), shares)
    return replace(prior, **count_labels(prior, z[chosen], [labels[index] for index in chosen])) if len(labels) else prior


def count_labels(prior: Mixture, z: Array, labels: Sequence[str]) -> dict[str, Any]:
    """The labels, and the share of each in each component."""
    names, indices = np.unique(np.array(labels), return_inverse=True)
    posterior = prior.posterior(z)
    shares = np.zeros((len(names), len(prior)), np.float32)
    np.add.at(shares, indices, posterior)
    shares += 1e-6  # a component that explains no latent has no label
    return {"labels": tuple(names.tolist()), "shares": (shares / shares.sum(0)).T}


@dataclass
class GaussianMixture:
    """A mixture in torch, as `Mixture` has it, over all dimensions."""

    weights: Tensor
    means: Tensor
    factors: Tensor

    def inverse_factors(self) -> Tensor:
        """The inverses of the factors, (K, A, A)."""
        identity = torch.eye(self.means.shape[1], device=self.means.device).expand_as(self.factors)
        inverse: Tensor = torch.linalg.solve_triangular(self.factors, identity, upper=False)
        return inverse

    def log_scales(self) -> Tensor:
        """The logarithm of each component's density at its mean times its weight, (K,)."""
        active = self.means.shape[1]
        return self.weights.log() - self.factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * active * log(2 * pi)

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(component, z) of latents (N, A), (N, K) nats."""
        count, active = self.means.shape
        inverse = self.inverse_factors()
        shift, scales = torch.einsum("kij,kj->ki", inverse, self.means), self.log_scales()
        parts = []
        for part in z.split(max(1, MAX_CHUNK_VALUES // (count * active))):
            whitened = (part @ inverse.reshape(-1, active).T).view(-1, count, active) - shift
            parts.append(scales - 0.5 * whitened.square().sum(2))
        return torch.cat(parts)

    def coefficients(self) -> Tensor:
        """What `features` are multiplied by for the log-density of each component, (1 + A + A * A, K)."""
        inverse = self.inverse_factors()
        precision = inverse.mT @ inverse
        linear = torch.einsum("kij,kj->ki", precision, self.means)
        constant = self.log_scales() - 0.5 * (linear * self.means).sum(1)
        return torch.cat([constant[:, None], linear, -0.5 * precision.flatten(1)], 1).T


def features(z: Tensor) -> Tensor:
    """1, z and all products of two values of z, (N, 1 + A + A * A): the sufficient statistics of a Gaussian."""
    return torch.cat([z.new_ones(len(z), 1), z, (z[:, :, None] * z[:, None]).flatten(1)], 1)


def fit_mixture(z: Tensor, size: int, seed: int, groups: Tensor) -> GaussianMixture:
    """Maximize the likelihood of latents (N, A) by expectation maximization (Dempster, Laird & Rubin 1977).

    It begins with components of one group each, if they are enough: the integers `groups`, (N,), stand for the labels. So most
    components end with images of one label.

    The log-density is linear in the sufficient statistics, and so is what is averaged: each iteration is two matrix products.
    """
    parts = z.split(max(1, MAX_CHUNK_VALUES // (1 + z.shape[1] + z.shape[1] ** 2)))
    each = size // (int(groups.max()) + 1)
    assigned = torch.zeros(len(z), dtype=torch.long) if each else assign(z, size, seed)
    for group in groups.unique() if each else ():
        members = groups == group
        assigned[members] = assign(z[members], each, seed) + group * each
    first = torch.nn.functional.one_hot(assigned).float().split(len(parts[0]))
    mixture = maximize(sum(share.T @ features(part) for part, share in zip(parts, first, strict=True)))
    before = -np.inf
    for _ in range(ITERATIONS if size > 1 else 0):
        coefficients = mixture.coefficients()
        statistics, likelihood = torch.zeros(coefficients.shape[::-1]), 0.0
        for part in parts:
            values = features(part)
            log_joint = values @ coefficients
            evidence = log_joint.logsumexp(1, keepdim=True)
            statistics += (log_joint - evidence).exp().T @ values
            likelihood += evidence.sum().item() / len(z)
        if likelihood - before < MIN_GAIN:
            break
        mixture, before = maximize(statistics), likelihood
    return mixture


def assign(z: Tensor, size: int, seed: int) -> Tensor:
    """The nearest of `size` centers for each latent, (N,): k-means++ (Arthur & Vassilvitskii 2007) and a few steps of k-means."""
    random = Generator().manual_seed(seed)
    centers = z[torch.randint(len(z), (1,), generator=random)]
    nearest = torch.full((len(z),), torch.inf)
    while len(centers) < size:
        nearest = torch.minimum(nearest, torch.cdist(z, centers[-1:])[:, 0].square())
        chosen = torch.multinomial(nearest + 1e-12, 1, generator=random)
        centers = torch.cat([centers, z[chosen]])
    for _ in range(5):
        nearest_center = torch.cdist(z, centers).argmin(1)
        counts = torch.bincount(nearest_center, minlength=size)
        sums = torch.zeros_like(centers).index_add_(0, nearest_center, z)
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
    return torch.cdist(z, centers).argmin(1)


def maximize(statistics: Tensor) -> GaussianMixture:
    """The mixture of the greatest likelihood for the sums of `features` in each component, (K, 1 + A + A * A)."""
    active = isqrt(statistics.shape[1])  # 1 + A + A * A is less than (A + 1) squared
    counts = statistics[:, 0] + 1e-6
    means = statistics[:, 1 : 1 + active] / counts[:, None]
    second = (statistics[:, 1 + active :] / counts[:, None]).view(-1, active, active)
    covariances = (second - means[:, :, None] * means[:, None]).double()
    covariances = (covariances + covariances.mT) / 2 + MIN_VARIANCE * torch.eye(active, dtype=torch.float64)
    factors, info = torch.linalg.cholesky_ex(covariances)
    failed = info > 0  # rounding made it indefinite: keep its variances
    variances = covariances[failed].diagonal(dim1=1, dim2=2).clamp(min=MIN_VARIANCE)
    factors[failed] = torch.diag_embed(variances.sqrt())
    return GaussianMixture(counts / counts.sum(), means, factors.float())
