import math

import pytest
import torch

from vaectl import networks, objective
from vaectl.engines.torch import module
from vaectl.objective import Bernoulli, Gaussian, Likelihood


def test_the_kl_is_the_one_torch_computes_between_normals() -> None:
    mu, logvar = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(objective.kl(mu, logvar), expected)
    assert objective.kl(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_sticking_the_landing_keeps_the_kl_and_its_mean_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    parameters = torch.tensor([[0.7, -0.3, -0.5, 0.4]], requires_grad=True)
    mu, logvar = parameters.expand(200_000, 4).chunk(2, dim=1)
    epsilon = torch.randn(200_000, 2, generator=random)
    exact = objective.kl(mu, logvar)
    found = objective.sticking_the_landing(objective.reparameterized(mu, logvar, epsilon), epsilon, logvar, exact)
    torch.testing.assert_close(found, exact)
    (expected,) = torch.autograd.grad(exact.mean(), parameters, retain_graph=True)
    (gradient,) = torch.autograd.grad(found.mean(), parameters)
    torch.testing.assert_close(gradient, expected, atol=0.01, rtol=0)


def test_sticking_the_landing_is_still_where_the_posterior_is_met() -> None:
    """Where q is the prior and the decoder ignores z, every draw's gradient is 0, not only their mean."""
    mu, logvar = torch.zeros(5, 2, requires_grad=True), torch.zeros(5, 2, requires_grad=True)
    epsilon = torch.randn(5, 2)
    z = objective.reparameterized(mu, logvar, epsilon)
    kl = objective.sticking_the_landing(z, epsilon, logvar, objective.kl(mu, logvar))
    assert all(gradient.abs().max() < 1e-6 for gradient in torch.autograd.grad(kl.sum(), (mu, logvar)))


def test_bernoulli_reconstruction_is_summed_over_pixels() -> None:
    logits = torch.zeros(2, 28, 28, 1)
    torch.testing.assert_close(Bernoulli().nll(logits, torch.rand(2, 28, 28, 1)), torch.full((2,), 784 * math.log(2)))


def test_bernoulli_reconstruction_is_torch_s_cross_entropy_even_far_out() -> None:
    logits, pictures = torch.tensor([[-200.0, -3, 0, 3, 200]]), torch.tensor([[0.0, 0.3, 0.5, 0.9, 1]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, pictures, reduction="none").sum(1)
    torch.testing.assert_close(Bernoulli().nll(logits, pictures), expected)


def test_gaussian_reconstruction_is_the_density_of_a_normal() -> None:
    logits, pictures = torch.randn(3, 4, 4, 1), torch.rand(3, 4, 4, 1)
    expected = -torch.distributions.Normal(torch.sigmoid(logits), 0.3).log_prob(pictures).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(0.3).nll(logits, pictures), expected)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.2)])
def test_the_residual_is_the_gradient_of_the_reconstruction(likelihood: Likelihood) -> None:
    logits = torch.randn(3, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    pictures = torch.rand(3, 4, 4, 1, dtype=torch.float64)
    (expected,) = torch.autograd.grad(likelihood.nll(logits, pictures).sum(), logits)
    torch.testing.assert_close(likelihood.residual(logits.detach(), pictures), expected, rtol=1e-5, atol=1e-6)


def test_a_learned_sigma_is_the_one_under_which_the_pictures_are_likeliest() -> None:
    likelihood = Gaussian(None)
    logits, pictures = torch.zeros(50, 8, 8, 1), 0.5 + 0.1 * torch.randn(50, 8, 8, 1, generator=torch.Generator().manual_seed(0))
    likelihood.observe(logits, pictures)
    assert likelihood.sigma == pytest.approx(0.1, rel=0.05)
    best = likelihood.nll(logits, pictures).mean()
    assert all(best < Gaussian(likelihood.sigma * factor).nll(logits, pictures).mean() for factor in (0.9, 1.1))
    given = Gaussian(0.3)
    given.observe(logits, pictures)
    assert given.sigma == pytest.approx(0.3)


def test_several_draws_of_z_belong_to_one_picture_each() -> None:
    network = networks.mlp((4, 4, 1), 3, [8], variational=True)
    encoder, decoder = module(network.encoder), module(network.decoder)
    pictures = torch.rand(2, 4, 4, 1)
    still, kl = objective.forward(encoder, decoder[:-1], pictures, 3, torch.zeros, 1)
    many, same_kl = objective.forward(encoder, decoder[:-1], pictures, 3, torch.zeros, 5)
    torch.testing.assert_close(many, still.repeat_interleave(5, 0))
    torch.testing.assert_close(kl, same_kl)


def test_importance_sampling_finds_the_likelihood_of_a_linear_gaussian_model() -> None:
    """x = W z + b + sigma * noise has x ~ N(b, W W' + sigma^2 I), known exactly."""
    random = torch.Generator().manual_seed(0)
    weights, bias, sigma = torch.randn(6, 2, generator=random), torch.randn(6, generator=random), 0.5
    x = torch.randn(4, 6, generator=random) + bias
    exact = -torch.distributions.MultivariateNormal(bias, weights @ weights.T + sigma**2 * torch.eye(6)).log_prob(x)
    posterior = torch.linalg.inv(torch.eye(2) + weights.T @ weights / sigma**2)
    mu = (x - bias) @ weights @ posterior / sigma**2
    # Not the posterior itself, whose weights would all be equal: wider, and independent in its dimensions.
    logvar = (1.5 * posterior.diagonal()).log().expand(4, 2)

    def log_likelihood(z: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(z @ weights.T + bias, sigma).log_prob(x[:, None]).sum(2)

    def normal(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    torch.testing.assert_close(objective.importance_nll(mu, logvar, log_likelihood, 50_000, normal), exact, atol=0.02, rtol=0)
    # One sample is -ELBO: an upper bound, which several tighten.
    one, ten = (
        torch.stack([objective.importance_nll(mu, logvar, log_likelihood, k, normal) for _ in range(400)]).mean(0)
        for k in (1, 10)
    )
    assert (one > ten).all() and (ten > exact - 0.02).all()


def test_importance_sampling_keeps_its_memory_bounded() -> None:
    largest = 0

    def log_likelihood(z: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, z.shape[0] * z.shape[1])
        return z.sum(2)

    objective.importance_nll(torch.zeros(10, 2), torch.zeros(10, 2), log_likelihood, 5003, torch.zeros)
    assert largest <= 2048


def test_z_is_drawn_around_mu_with_sigma() -> None:
    mu, logvar = torch.full((20000, 1), 2.0), torch.full((20000, 1), math.log(0.25))
    z = objective.reparameterized(mu, logvar, torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)))
    assert abs(z.mean().item() - 2) < 0.02
    assert abs(z.std().item() - 0.5) < 0.02


def test_a_point_has_no_kl_and_draws_nothing() -> None:
    network = networks.mlp((4, 4, 1), 3, [8], variational=False)
    encoder, decoder = module(network.encoder), module(network.decoder)

    def never(shape: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("something was drawn")

    logits, kl = objective.forward(encoder, decoder[:-1], torch.rand(5, 4, 4, 1), 3, never)
    assert logits.shape == (5, 4, 4, 1)
    assert kl.tolist() == [0] * 5
