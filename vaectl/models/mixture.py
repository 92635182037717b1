"""The learned prior: a mixture of Gaussians fitted to the latents of training images."""

from dataclasses import dataclass
from functools import cached_property
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from vaectl.base.arrays import Array

MAX_CHUNK_VALUES = 1 << 23  # 32 MB of intermediate results


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K Gaussians over the A active dimensions of a latent space of D; other dimensions are N(0, 1).

    `dims`, (A,), are the active dimensions; `weights`, (K,), sum to 1; `means` are (K, A), and `factors`, (K, A, A), the lower
    Cholesky factors of the covariances. `shares`, (K, L), has the fraction of each of `labels` in each component.

    Raises:
        ValueError: arrays of other shapes, or not a valid mixture.
    """

    latent_dim: int
    dims: NDArray[np.int64]
    weights: Array
    means: Array
    factors: Array
    shares: Array
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count, active, n_labels = len(self.weights), len(self.dims), len(self.labels)
        shapes = ((count,), (count, active), (count, active, active), (count, n_labels))
        if tuple(array.shape for array in (self.weights, self.means, self.factors, self.shares)) != shapes:
            raise ValueError("the tensors of its prior do not fit together")
        if not active or self.dims[0] < 0 or self.dims[-1] >= self.latent_dim or (np.diff(self.dims) <= 0).any():
            raise ValueError(f"the dimensions of its prior are not an ascending selection of {self.latent_dim}")
        if (self.weights < 0).any() or abs(float(self.weights.sum(dtype=np.float64)) - 1) > 1e-3:
            raise ValueError("the weights of its prior are not probabilities that sum to 1")
        if n_labels and ((self.shares < 0).any() or (np.abs(self.shares.sum(1) - 1) > 1e-3).any()):
            raise ValueError("the shares of labels in its prior do not sum to 1")
        if (self.weights @ self.shares <= 0).any():
            raise ValueError("a label of its prior has no share in any component")
        if np.triu(self.factors, 1).any() or (np.diagonal(self.factors, axis1=1, axis2=2) <= 0).any():
            raise ValueError("a covariance of its prior is not positive definite")

    def __len__(self) -> int:
        """K, the number of components."""
        return len(self.weights)

    @cached_property
    def inverse_factors(self) -> Array:
        """The inverses of the factors, (K, A, A)."""
        return np.linalg.inv(self.factors)

    def log_prob(self, z: Array) -> Array:
        """log p(z) of latents (N, D), (N,) nats."""
        log_joint = self.log_joint(z)
        largest = log_joint.max(axis=1, keepdims=True)
        result: Array = largest[:, 0] + np.log(np.exp(log_joint - largest).sum(axis=1))
        return result

    def log_joint(self, z: Array) -> Array:
        """log p(component, z) of latents (N, D), (N, K) nats."""
        count, active = self.means.shape
        others = np.delete(z, self.dims, axis=1)
        constant = -0.5 * (self.latent_dim * log(2 * pi) + np.square(others).sum(axis=1))
        with np.errstate(divide="ignore"):  # a component of weight 0
            scale = np.log(self.weights) - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1)
        chunks = []
        size = max(1, MAX_CHUNK_VALUES // (count * active))
        whitening = self.inverse_factors.reshape(count * active, active)
        shift = np.einsum("kij,kj->ki", self.inverse_factors, self.means)
        for start in range(0, len(z), size):
            part = z[start : start + size][:, self.dims]
            whitened = (part @ whitening.T).reshape(-1, count, active) - shift
            chunks.append(scale - 0.5 * np.square(whitened).sum(axis=2))
        result: Array = np.concatenate(chunks) + constant[:, np.newaxis]
        return result

    def posterior(self, z: Array) -> Array:
        """p(component | z) of latents (N, D), (N, K)."""
        log_joint = self.log_joint(z)
        joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        result: Array = joint / joint.sum(axis=1, keepdims=True)
        return result

    def classify(self, z: Array) -> list[str]:
        """The most probable label of each latent in (N, D); empty without labels."""
        if not self.labels:
            return []
        return [self.labels[index] for index in (self.posterior(z) @ self.shares).argmax(axis=1)]

    def purity(self, label: str) -> float:
        """The expected fraction of samples drawn for a label that have it; raises KeyError like `share_of`."""
        share = self.share_of(label)
        chosen = self.weights * share
        return float(chosen @ share / chosen.sum())

    def share_of(self, label: str) -> NDArray[np.float64]:
        """The share of a label in each component, (K,).

        Raises:
            KeyError: no such label.
        """
        if label not in self.labels:
            raise KeyError(label)
        return self.shares[:, self.labels.index(label)].astype(np.float64)

    def sample(self, count: int, seed: int, temperature: float = 1.0, label: str | None = None) -> Array:
        """Samples, (count, D); `temperature` scales their deviations from the means of the components.

        With `label`, components are weighted by their share of it.

        Raises:
            KeyError: no such label.
        """
        rng = np.random.default_rng(seed)
        weights = self.weights.astype(np.float64)
        if label is not None:
            weights *= self.share_of(label)
        chosen = rng.choice(len(self), count, p=weights / weights.sum())
        z = rng.standard_normal((count, self.latent_dim), np.float32) * np.float32(temperature)
        z[:, self.dims] = self.means[chosen] + np.einsum("nij,nj->ni", self.factors[chosen], z[:, self.dims])
        return z
