import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaectl.models.mixture import Mixture
from vaectl.training.fit_mixture import GaussianMixture, features, fit_prior, sum_features

Array = NDArray[np.float32]


def mixture(labels: tuple[str, ...] = ("a", "b")) -> Mixture:
    """Two Gaussians over dimensions 0 and 2 of three; the first is all a, the second mostly b."""
    factors = np.array([[[1, 0], [0.5, 0.3]], [[0.2, 0], [0, 0.4]]], np.float32)
    means, shares = np.array([[3, 0], [-2, 1]], np.float32), np.array([[1, 0], [0.1, 0.9]], np.float32)[:, : len(labels)]
    return Mixture(3, np.array([0, 2]), np.array([0.25, 0.75], np.float32), means, factors, shares, labels)


def test_the_density_is_that_of_torch_distributions() -> None:
    found, z = mixture(), np.random.default_rng(0).normal(0, 2, (50, 3)).astype(np.float32)
    components = torch.distributions.MultivariateNormal(torch.from_numpy(found.means), scale_tril=torch.from_numpy(found.factors))
    joint = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.from_numpy(found.weights)), components)
    normal = torch.distributions.Normal(0, 1)
    expected = joint.log_prob(torch.from_numpy(z[:, [0, 2]])) + normal.log_prob(torch.from_numpy(z[:, 1]))
    np.testing.assert_allclose(found.log_prob(z), expected, atol=1e-4)


def test_samples_have_the_moments_of_the_mixture() -> None:
    found = mixture()
    z = found.sample(200_000, seed=0)
    np.testing.assert_allclose(z.mean(0), [0.25 * 3 - 0.75 * 2, 0, 0.75], atol=0.02)
    first = z[z[:, 0] > -1]
    np.testing.assert_allclose(np.cov(first[:, [0, 2]].T), found.factors[0] @ found.factors[0].T, atol=0.02)
    assert z[:, 1].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(found.sample(5, seed=3), found.sample(5, seed=3))


def test_the_temperature_scales_deviations_from_components() -> None:
    cold = mixture().sample(1000, seed=0, temperature=0)
    assert len(np.unique(cold[:, 0])) == 2 and not cold[:, 1].any()


def test_a_label_draws_from_the_components_that_have_it() -> None:
    found = mixture()
    assert (found.sample(2000, seed=0, label="b")[:, 0] < 0).all()
    assert (found.sample(2000, seed=0, label="a")[:, 0] > 0).mean() == pytest.approx(0.25 / (0.25 + 0.075), abs=0.04)
    with pytest.raises(KeyError):
        found.sample(1, seed=0, label="c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.array([0.5, 0.6], np.float32)}, "sum to 1"),
        ({"weights": np.array([1.5, -0.5], np.float32)}, "probabilities"),
        ({"weights": np.ones(3, np.float32) / 3}, "do not fit together"),
        ({"dims": np.array([2, 0])}, "ascending"),
        ({"dims": np.array([0, 3])}, "ascending"),
        ({"factors": np.zeros((2, 2, 2), np.float32)}, "positive definite"),
        ({"factors": np.ones((2, 2, 2), np.float32)}, "positive definite"),
        ({"shares": np.ones((2, 2), np.float32)}, "shares"),
    ],
)
def test_what_is_not_a_mixture_is_refused(change: dict[str, Array], message: str) -> None:
    valid = {name: getattr(mixture(), name) for name in ("dims", "weights", "means", "factors", "shares")}
    with pytest.raises(ValueError, match=message):
        Mixture(3, **valid | change, labels=("a", "b"))


# Fitting.


def clusters(count: int, dims: int = 4, n_clusters: int = 10) -> Array:
    """Latents in clusters far from one another."""
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 4, (n_clusters, dims))
    z = centers[rng.integers(n_clusters, size=count)] + rng.normal(0, 0.3, (count, dims))
    return z.astype(np.float32)


def test_a_fitted_mixture_explains_held_out_latents() -> None:
    z = clusters(6000)
    found = fit_prior(z[:5000], seed=0)
    assert found is not None and len(found) >= 10
    normal = -0.5 * (np.square(z[5000:]).sum(1) + 4 * np.log(2 * np.pi))
    entropy = 4 * 0.5 * np.log(2 * np.pi * np.e * 0.3**2) + np.log(10)
    assert found.log_prob(z[5000:]).mean() > normal.mean() + 10
    assert found.log_prob(z[5000:]).mean() == pytest.approx(-entropy, abs=0.25)


def test_many_components_do_not_learn_latents_by_heart() -> None:
    z = clusters(15_000, dims=8, n_clusters=150)
    found = fit_prior(z[:12_000], seed=0)
    assert found is not None and len(found) == 200
    assert found.log_prob(z[:5000]).mean() - found.log_prob(z[12_000:]).mean() < 0.8


def test_no_more_components_are_tried_than_a_short_training_pays_for() -> None:
    z = clusters(12_000, n_clusters=150)
    sizes = [len(fit_prior(z, seed=0, training_cost=cost) or ()) for cost in (1e8, 5e9, 1e12)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("size", [2, 5, 9])
def test_few_and_many_components_are_computed_alike(size: int) -> None:
    random = torch.Generator().manual_seed(0)
    z, means, lower = (torch.randn(*shape, generator=random) for shape in ((2500, 5), (size, 5), (size, 5, 5)))
    shares = torch.rand(2500, size, generator=random)
    factors = lower.tril(-1) * 0.3 + torch.eye(5)
    found = GaussianMixture(torch.full((size,), 1 / size), means, factors)
    normals = torch.distributions.MultivariateNormal(means, scale_tril=factors)
    torch.testing.assert_close(found.log_joint(z), normals.log_prob(z[:, None]) - np.log(size), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sum_features(z, shares), shares.T @ features(z), rtol=1e-4, atol=1e-2)


def test_the_same_seed_gives_the_same_bits() -> None:
    one, two = (fit_prior(clusters(2000), seed=1) for _ in range(2))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one.factors, two.factors)


def test_a_gaussian_is_one_component() -> None:
    z = (np.random.default_rng(0).normal(0, 1, (3000, 3)) @ [[1, 0.5, 0], [0, 1, 0], [0, 0, 2]] + 1).astype(np.float32)
    found = fit_prior(z, seed=0)
    assert found is not None and len(found) == 1
    np.testing.assert_allclose(found.factors[0] @ found.factors[0].T, np.cov(z.T), atol=0.15)


def test_inactive_dimensions_stay_standard_normal() -> None:
    z = clusters(3000)
    z[:, 1] = 0.01
    found = fit_prior(z, seed=0, active=np.array([True, False, True, True]))
    assert found is not None and found.dims.tolist() == [0, 2, 3]
    assert found.sample(5000, seed=0)[:, 1].std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("count", "dims"), [(3, 2), (40, 1), (100, 512), (500, 64)])
def test_few_latents_of_many_dimensions_give_a_small_mixture_or_none(count: int, dims: int) -> None:
    z = np.random.default_rng(0).normal(0, 1, (count, dims)).astype(np.float32)
    found = fit_prior(z, seed=0)
    assert (found is None) == (count < 20)
    if found:
        assert len(found) == 1 and np.isfinite(found.log_prob(z)).all()


def test_constant_latents_are_fitted_without_an_error() -> None:
    found = fit_prior(np.full((200, 3), 2, np.float32), seed=0)
    assert found is not None
    np.testing.assert_allclose(found.sample(10, seed=0), 2, atol=0.1)


def test_few_latents_of_many_dimensions_make_a_prior_that_others_fit() -> None:
    rng = np.random.default_rng(0)
    latents, others = rng.standard_normal((54, 128), np.float32), rng.standard_normal((100, 128), np.float32)
    prior = fit_prior(latents, 0)
    normal = -0.5 * (np.square(others).sum(1) + 128 * np.log(2 * np.pi))
    assert prior and prior.log_prob(others).mean() > normal.mean() - 40


def test_few_labeled_latents_make_a_component_for_each_label() -> None:
    rng = np.random.default_rng(0)
    labels = ["circle", "square"] * 27
    latents = (rng.standard_normal((54, 8)) + 4 * (np.array(labels) == "square")[:, None]).astype(np.float32)
    prior = fit_prior(latents, 0, labels=labels)
    assert prior and len(prior) == 2
    assert prior.purity("circle") > 0.9 and prior.purity("square") > 0.9
    assert set(prior.classify(prior.sample(100, 0, label="square"))) == {"square"}
