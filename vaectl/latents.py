"""Geometry of the latent space, in pure NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    low, high = np.percentile(z, [1, 99], axis=0)
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


def grid(centre: Array, dims: tuple[int, int], across: Sequence[float] | Array, up: Sequence[float] | Array) -> Array:
    """The points of a plane, (len(up) * len(across), D), top row first as a picture is read.

    The first of `dims` takes the values `across` rightwards, the second the values `up` upwards; the others stay at `centre`.
    """
    points = np.tile(centre.astype(np.float32), (len(up) * len(across), 1))
    points[:, dims[0]] = np.tile(across, len(up))
    points[:, dims[1]] = np.repeat(np.asarray(up)[::-1], len(across))
    return points
