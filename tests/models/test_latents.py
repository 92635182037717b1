from statistics import NormalDist

import numpy as np

from vaectl.models import latents


def test_linear_spacing_includes_both_ends() -> None:
    assert latents.spaced(-3, 3, 7, "linear").tolist() == [-3, -2, -1, 0, 1, 2, 3]


def test_quantile_spacing_is_even_in_probability() -> None:
    points = latents.spaced(-2, 2, 9, "quantile")
    assert points[[0, -1]].tolist() == [-2, 2]
    steps = np.diff([NormalDist().cdf(point) for point in points.tolist()])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


def test_quantile_spacing_of_a_wide_range_is_finite_and_increasing() -> None:
    points = latents.spaced(-50, 50, 20, "quantile")
    assert np.isfinite(points).all()
    assert (np.diff(points) >= 0).all()


def test_quantile_spacing_follows_the_given_mean_and_standard_deviation() -> None:
    points = latents.spaced(8, 12, 3, "quantile", mean=10, std=1)
    np.testing.assert_allclose(points, [8, 10, 12], atol=1e-5)


def test_a_single_step_is_the_midpoint() -> None:
    assert latents.spaced(-1, 3, 1, "linear").tolist() == [1]
    np.testing.assert_allclose(latents.spaced(-3, 3, 1, "quantile"), [0], atol=1e-6)


def test_a_grid_runs_rightwards_and_upwards_and_keeps_the_other_dimensions() -> None:
    points = latents.grid(np.array([7, 8, 9], np.float32), (2, 0), [1, 2], [10, 20])
    assert points.tolist() == [[20, 8, 1], [20, 8, 2], [10, 8, 1], [10, 8, 2]]
    assert points.dtype == np.float32


def test_statistics_of_latents() -> None:
    z = np.stack([np.arange(101), np.full(101, 5)], axis=1).astype(np.float32)
    found = latents.compute_stats(z)
    assert found.mean == [50, 5]
    assert found.percentile_1 == [1, 5]
    assert found.percentile_99 == [99, 5]
    assert found.std[1] == 0
