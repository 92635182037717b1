"""Fitting a prior to the latents of training images, after training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isqrt, log, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vaectl.base.arrays import Array
from vaectl.models.mixture import Mixture

SIZES = (1, 3, 10, 50, 200)  # components to choose from, by held-out likelihood
HELD_OUT_ONE_IN = 10
MIN_HELD_OUT = 10  # held-out latents needed to compare sizes
MAX_LATENTS = 60_000
ITERATIONS = 30
CANDIDATES = 50  # latents among which each first center is chosen
MAX_COST = 0.03  # of the multiplications of the training, for each size: about a tenth of its time for all
EXPONENTIAL = 64  # multiplications that take as long as an exponential
MIN_GAIN = 4e-3  # nats per latent and iteration, below which fitting ends
MIN_SHARE = 3  # latents per component and active dimension
SHRINKAGE = 3  # latents per active dimension of the mean covariance, which are added to those of each component
MIN_VARIANCE = 1e-4  # of a component, relative to that of all latents
CHUNK = 1000  # latents whose intermediate results stay in the cache


def fit_prior(
    z: Array, seed: int, active: NDArray[np.bool_] | None = None, labels: Sequence[str] = (), training_cost: float = inf
) -> Mixture | None:
    """Fit a mixture of full Gaussians to latents (N, D), one of each training image: z for an autoencoder, z ~ q(z|x) for a VAE.

    Its size is that of the best likelihood on latents that were held out; None if there are too few latents for any. `active`,
    (D,), says which dimensions are modelled; `labels`, (N,) if given, become shares of the components. Fewer latents are used
    where fitting would take long beside the training, whose `training_cost` is weights times images. The same seed gives the same
    bits.
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
    names, indices = np.unique(np.array(labels)[chosen] if len(labels) else np.zeros(len(chosen)), return_inverse=True)
    groups = torch.from_numpy(indices)[is_train]
    n_labels = len(names)
    best, best_likelihood = None, -np.inf
    for size in sorted({*SIZES, min(n_labels, SIZES[-1])}):
        affordable = MAX_COST * training_cost / (ITERATIONS * iteration_cost(size, len(dims)))
        count = int(min(len(train), affordable)) if size > 1 else len(train)
        # One component for each label needs few latents, for its covariance is then mostly the mean of all.
        needed = MIN_SHARE * size * (1 if size == n_labels else len(dims))
        if size > 1 and (count < needed or (len(held_out) < MIN_HELD_OUT and size != n_labels)):
            continue
        fitted = fit_mixture(train[:count], size, seed, groups[:count])
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

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(component, z) of latents (N, A), (N, K) nats."""
        count, active = self.means.shape
        if uses_features(count, active):
            return torch.cat([features(part) @ self.coefficients for part in z.split(CHUNK)])
        inverse = self.inverse_factors
        whitening, shift = inverse.reshape(-1, active).T, torch.einsum("kij,kj->ki", inverse, self.means)
        whitened = ((part @ whitening).view(-1, count, active) - shift for part in z.split(CHUNK))
        return torch.cat([self.log_scales - 0.5 * part.square().sum(2) for part in whitened])

    @cached_property
    def inverse_factors(self) -> Tensor:
        """The inverses of the factors, (K, A, A)."""
        identity = torch.eye(self.means.shape[1], device=self.means.device).expand_as(self.factors)
        inverse: Tensor = torch.linalg.solve_triangular(self.factors, identity, upper=False)
        return inverse

    @cached_property
    def log_scales(self) -> Tensor:
        """The logarithm of each component's density at its mean times its weight, (K,)."""
        active = self.means.shape[1]
        return self.weights.log() - self.factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * active * log(2 * pi)

    @cached_property
    def coefficients(self) -> Tensor:
        """What `features` are multiplied by for the log-density of each component, (F, K)."""
        precision = self.inverse_factors.mT @ self.inverse_factors
        linear = torch.einsum("kij,kj->ki", precision, self.means)
        constant = self.log_scales - 0.5 * (linear * self.means).sum(1)
        row, column = (index.to(precision.device) for index in pairs(self.means.shape[1]))
        quadratic = -precision[:, row, column] * torch.where(row == column, 0.5, 1.0)
        return torch.cat([constant[:, None], linear, quadratic], 1).T


def uses_features(size: int, active: int) -> bool:
    """Whether computing all `features` of a latent costs less than going through the components one by one."""
    return size >= active


def iteration_cost(size: int, active: int) -> int:
    """The multiplications for one latent in half an iteration: the log-densities, or the averages."""
    products = active * (active + 1) // 2 if uses_features(size, active) else active**2
    return size * (products + EXPONENTIAL)


def pairs(active: int) -> tuple[Tensor, Tensor]:
    """The indices of all products of two dimensions, each product once."""
    row, column = torch.triu_indices(active, active)
    return row, column


def features(z: Tensor) -> Tensor:
    """1, z and all products of two values of z, (N, F): the sufficient statistics of a Gaussian."""
    products = [z[:, index:] * z[:, index : index + 1] for index in range(z.shape[1])]  # as `pairs` has them
    return torch.cat([z.new_ones(len(z), 1), z, *products], 1)


def sum_features(z: Tensor, shares: Tensor) -> Tensor:
    """The sums of the `features` of latents (N, A) by their shares in each component, (N, K); (K, F)."""
    size, active = shares.shape[1], z.shape[1]
    if uses_features(size, active):
        return shares.T @ features(z)
    weighted = (shares[:, :, None] * z[:, None]).flatten(1)
    row, column = pairs(active)
    products = (weighted.T @ z).view(size, active, active)[:, row, column]
    return torch.cat([shares.sum(0)[:, None], shares.T @ z, products], 1)


def fit_mixture(z: Tensor, size: int, seed: int, groups: Tensor) -> GaussianMixture:
    """Maximize the likelihood of latents (N, A) by expectation maximization (Dempster, Laird & Rubin 1977).

    It begins with components of one group each, if they are enough: the integers `groups`, (N,), stand for the labels. So most
    components end with images of one label.

    With many components, the log-density is computed from the sufficient statistics, in which it is linear, as the averages are:
    each iteration is two matrix products.
    """
    parts = z.split(CHUNK)
    each = size // (int(groups.max()) + 1)
    assigned = torch.zeros(len(z), dtype=torch.long) if each else assign(z, size, seed)
    for group in groups.unique() if each else ():
        members = groups == group
        assigned[members] = assign(z[members], each, seed) + group * each
    first = torch.nn.functional.one_hot(assigned, size).float().split(CHUNK)
    mixture = maximize(sum(map(sum_features, parts, first), torch.zeros(())))
    before = -np.inf
    for _ in range(ITERATIONS if size > 1 else 0):
        statistics, likelihood = torch.zeros(()), 0.0
        for part in parts:
            log_joint = mixture.log_joint(part)
            evidence = log_joint.logsumexp(1, keepdim=True)
            statistics = statistics + sum_features(part, log_joint.sub_(evidence).exp_())
            likelihood += evidence.sum().item() / len(z)
        if likelihood - before < MIN_GAIN:
            break
        mixture, before = maximize(statistics), likelihood
    return mixture


def assign(z: Tensor, size: int, seed: int) -> Tensor:
    """The nearest of `size` centers for each latent, (N,): k-means++ (Arthur & Vassilvitskii 2007) and a few steps of k-means."""
    random = Generator().manual_seed(seed)
    candidates = z[: CANDIDATES * size]
    centers = candidates[torch.randint(len(candidates), (1,), generator=random)]
    nearest = torch.full((len(candidates),), torch.inf)
    while len(centers) < size:
        nearest = torch.minimum(nearest, torch.cdist(candidates, centers[-1:])[:, 0].square())
        chosen = torch.multinomial(nearest + 1e-12, 1, generator=random)
        centers = torch.cat([centers, candidates[chosen]])
    for _ in range(5):
        nearest_center = torch.cdist(z, centers).argmin(1)
        counts = torch.bincount(nearest_center, minlength=size)
        sums = torch.zeros_like(centers).index_add_(0, nearest_center, z)
        centers = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centers)
    return torch.cdist(z, centers).argmin(1)


def maximize(statistics: Tensor) -> GaussianMixture:
    """The mixture of the greatest likelihood for the sums of `features` in each component, (K, F).

    Covariances are shrunk to their mean, or many small components would know their latents by heart (Friedman 1989, RDA), and
    their mean to the identity, the covariance of standardized latents, or it would be almost singular for few of them.
    """
    active = (isqrt(8 * statistics.shape[1] + 1) - 3) // 2
    counts = statistics[:, 0] + 1e-6
    means = statistics[:, 1 : 1 + active] / counts[:, None]
    row, column = pairs(active)
    scatter = torch.zeros(len(counts), active, active, dtype=torch.float64)
    scatter[:, row, column] = scatter[:, column, row] = statistics[:, 1 + active :].double()
    scatter -= counts[:, None, None] * means[:, :, None] * means[:, None]
    identity, extra = torch.eye(active, dtype=torch.float64), SHRINKAGE * active
    mean_covariance = (scatter.sum(0) + active * identity) / (counts.sum() + active)
    covariances = (scatter + extra * mean_covariance) / (counts + extra)[:, None, None]
    covariances += MIN_VARIANCE * identity
    factors, info = torch.linalg.cholesky_ex(covariances)
    failed = info > 0  # rounding made it indefinite: keep its variances
    variances = covariances[failed].diagonal(dim1=1, dim2=2).clamp(min=MIN_VARIANCE)
    factors[failed] = torch.diag_embed(variances.sqrt())
    return GaussianMixture(counts / counts.sum(), means, factors.float())
