"""Geometry of the latent space, in pure NumPy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LatentStatistics:
    """How each latent dimension was spread over the training pictures: D numbers each."""

    mean: Sequence[float]
    std: Sequence[float]
    percentile_1: Sequence[float]
    percentile_99: Sequence[float]


def statistics(z: Array) -> LatentStatistics:
    """How latents, (N, D), are spread."""
    low, high = np.percentile(z, [1, 99], axis=0) if z.size else np.zeros((2, z.shape[1]))
    spread = {"mean": z.mean(0), "std": z.std(0), "percentile_1": low, "percentile_99": high}
    return LatentStatistics(**{name: values.astype(float).tolist() for name, values in spread.items()})


def spaced(low: float, high: float, steps: int, spacing: str, mean: float = 0.0, std: float = 1.0) -> Array:
    """`steps` numbers from `low` to `high`, both included; one step stands in the middle.

    `linear` steps are equal; `quantile` steps are equal in the probability of N(mean, std^2) (Kingma & Welling, figure 4).
    """
    shares = np.linspace(0, 1, steps) if steps > 1 else np.array([0.5])
    if spacing == "quantile":
        normal = NormalDist(mean, max(std, 1e-12))
        first, last = normal.cdf(low), normal.cdf(high)
        # The ends are set below: far out, their probability rounds to 0 or 1, which has no quantile.
        inner = [normal.inv_cdf(min(max(p, 1e-15), 1 - 1e-15)) for p in first + shares * (last - first)]
        points = np.clip(inner, low, high)
    else:
        points = low + shares * (high - low)
    if steps > 1:
        points[[0, -1]] = low, high
    return points.astype(np.float32)


def lerp(start: Array, end: Array, share: float) -> Array:
    """The point at `share` of the straight line from `start` to `end`, (D,)."""
    return start + np.float32(share) * (end - start)


def slerp(start: Array, end: Array, share: float) -> Array:
    """The point at `share` of the way from `start` to `end` along the great circle, lengths between theirs (Shoemake 1985).

    Draws from a prior of many dimensions lie near a sphere, and a straight line would leave it. Where no great circle is
    defined, it is the straight line.
    """
    lengths = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    if min(lengths) == 0:
        return lerp(start, end, share)
    angle = float(np.arccos(np.clip(np.dot(start / lengths[0], end / lengths[1]), -1, 1)))
    if np.sin(angle) < 1e-4:
        return lerp(start, end, share)
    weights = np.sin((1 - share) * angle) / np.sin(angle), np.sin(share * angle) / np.sin(angle)
    direction = weights[0] * start / lengths[0] + weights[1] * end / lengths[1]
    result: Array = ((1 - share) * lengths[0] + share * lengths[1]) * direction
    return result.astype(np.float32)


METHODS = {"linear": lerp, "slerp": slerp}


def path(points: Array, steps: int, method: str, *, loop: bool) -> Iterator[Array]:
    """The points of a walk from each of `points`, (M, D), to the next in `steps`, both ends counted and no knot twice.

    `loop` goes on to the first again, which is not repeated at the end.
    """
    knots = [*points, points[0]] if loop else [*points]
    for start, end in pairwise(knots):
        yield from (METHODS[method](start, end, step / (steps - 1)) for step in range(steps - 1))
    if not loop:
        yield points[-1]


def prior(count: int, latent: int, seed: int) -> Array:
    """Draws from N(0, I), (count, latent)."""
    return np.random.default_rng(seed).standard_normal((count, latent), np.float32)


def grid(centre: Array, dims: tuple[int, int], across: Sequence[float] | Array, up: Sequence[float] | Array) -> Array:
    """The points of a plane, (len(up) * len(across), D), top row first as a picture is read.

    The first of `dims` takes the values `across` rightwards, the second the values `up` upwards; the others stay at `centre`.
    """
    points = np.tile(centre.astype(np.float32), (len(up) * len(across), 1))
    points[:, dims[0]] = np.tile(across, len(up))
    points[:, dims[1]] = np.repeat(np.asarray(up)[::-1], len(across))
    return points
