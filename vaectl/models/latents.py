"""Geometry of the latent space, in NumPy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from vaectl.base.arrays import Array


@dataclass(frozen=True)
class LatentStats:
    """The distribution of each latent dimension over training images: D numbers each."""

    mean: Sequence[float]
    std: Sequence[float]
    percentile_1: Sequence[float]
    percentile_99: Sequence[float]


def compute_stats(z: Array) -> LatentStats:
    """The statistics of latents (N, D)."""
    low, high = np.percentile(z, [1, 99], axis=0) if z.size else np.zeros((2, z.shape[1]))
    stats = {"mean": z.mean(0), "std": z.std(0), "percentile_1": low, "percentile_99": high}
    return LatentStats(**{name: values.astype(float).tolist() for name, values in stats.items()})


def spaced(low: float, high: float, steps: int, spacing: str, mean: float = 0.0, std: float = 1.0) -> Array:
    """`steps` numbers from `low` to `high`, both included; a single step is the midpoint.

    "linear" steps are equal; "quantile" steps have equal probability under N(mean, std^2) (Kingma & Welling, figure 4).
    """
    fractions = np.linspace(0, 1, steps) if steps > 1 else np.array([0.5])
    if spacing == "quantile":
        normal = NormalDist(mean, max(std, 1e-12))
        first, last = normal.cdf(low), normal.cdf(high)
        # Far out, probabilities round to 0 or 1, which have no quantile; the ends are set below.
        inner = [normal.inv_cdf(min(max(p, 1e-15), 1 - 1e-15)) for p in first + fractions * (last - first)]
        points = np.clip(inner, low, high)
    else:
        points = low + fractions * (high - low)
    if steps > 1:
        points[[0, -1]] = low, high
    return points.astype(np.float32)


def lerp(start: Array, end: Array, fraction: float) -> Array:
    """Linear interpolation between two latents (D,)."""
    return start + np.float32(fraction) * (end - start)


def slerp(start: Array, end: Array, fraction: float) -> Array:
    """Spherical interpolation between two latents (D,), with the norm interpolated linearly (Shoemake 1985).

    Samples of a high-dimensional N(0, I) lie near a sphere, which a straight line leaves. Falls back to `lerp` where no great
    circle is defined.
    """
    norms = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    if min(norms) == 0:
        return lerp(start, end, fraction)
    angle = float(np.arccos(np.clip(np.dot(start / norms[0], end / norms[1]), -1, 1)))
    if np.sin(angle) < 1e-4:
        return lerp(start, end, fraction)
    weights = np.sin((1 - fraction) * angle) / np.sin(angle), np.sin(fraction * angle) / np.sin(angle)
    direction = weights[0] * start / norms[0] + weights[1] * end / norms[1]
    result: Array = ((1 - fraction) * norms[0] + fraction * norms[1]) * direction
    return result.astype(np.float32)


METHODS = {"linear": lerp, "slerp": slerp}


def path(points: Array, steps: int, method: str, *, loop: bool) -> Iterator[Array]:
    """The latents along a path through `points` (M, D): `steps` from each to the next, ends included, each point once.

    `loop` returns to the first point, which is not repeated at the end.
    """
    knots = [*points, points[0]] if loop else [*points]
    for start, end in pairwise(knots):
        yield from (METHODS[method](start, end, step / (steps - 1)) for step in range(steps - 1))
    if not loop:
        yield points[-1]


def sample_normal(count: int, latent_dim: int, seed: int) -> Array:
    """Samples of N(0, I), (count, latent_dim)."""
    return np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)


def grid(center: Array, dims: tuple[int, int], across: Sequence[float] | Array, up: Sequence[float] | Array) -> Array:
    """The latents of a plane, (len(up) * len(across), D), in reading order: top row first.

    The first of `dims` takes the values `across` from left to right, the second takes `up` from bottom to top; the others
    stay at `center`.
    """
    points = np.tile(center.astype(np.float32), (len(up) * len(across), 1))
    points[:, dims[0]] = np.tile(across, len(up))
    points[:, dims[1]] = np.repeat(np.asarray(up)[::-1], len(across))
    return points
