import math

import pytest
import torch

from vaectl.models.network import build_mlp
from vaectl.models.torch_engine import build_module
from vaectl.training import losses
from vaectl.training.losses import Bernoulli, Gaussian, Likelihood, Output


def test_the_kl_equals_that_of_torch_distributions() -> None:
    mu, logvar = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(losses.kl_divergence(mu, logvar), expected)
    assert losses.kl_divergence(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_sticking_the_landing_has_the_value_and_the_mean_gradient_of_the_kl() -> None:
    random = torch.Generator().manual_seed(0)
    parameters = torch.tensor([[0.7, -0.3, -0.5, 0.4]], requires_grad=True)
    mu, logvar = parameters.expand(200_000, 4).chunk(2, dim=1)
    epsilon = torch.randn(200_000, 2, generator=random)
    exact = losses.kl_divergence(mu, logvar)
    found = losses.through_z(losses.reparameterize(mu, logvar, epsilon), epsilon, logvar)
    torch.testing.assert_close(found.mean(), exact.mean(), atol=0.01, rtol=0)
    (expected,) = torch.autograd.grad(exact.mean(), parameters, retain_graph=True)
    (gradient,) = torch.autograd.grad(found.mean(), parameters)
    torch.testing.assert_close(gradient, expected, atol=0.01, rtol=0)


def test_sticking_the_landing_has_no_gradient_variance_at_the_posterior() -> None:
    """If q is the prior and the decoder ignores z, the gradient of every sample is 0, not only their mean."""
    mu, logvar = torch.zeros(5, 2, requires_grad=True), torch.zeros(5, 2, requires_grad=True)
    epsilon = torch.randn(5, 2)
    z = losses.reparameterize(mu, logvar, epsilon)
    kl = losses.through_z(z, epsilon, logvar)
    assert all(gradient.abs().max() < 1e-6 for gradient in torch.autograd.grad(kl.sum(), (mu, logvar)))


def test_the_bernoulli_nll_is_summed_over_pixels() -> None:
    logits = torch.zeros(2, 28, 28, 1)
    torch.testing.assert_close(Bernoulli().nll(logits, torch.rand(2, 28, 28, 1)), torch.full((2,), 784 * math.log(2)))


def test_the_bernoulli_nll_equals_the_cross_entropy_of_torch_even_for_large_logits() -> None:
    logits, images = torch.tensor([[-200.0, -3, 0, 3, 200]]), torch.tensor([[0.0, 0.3, 0.5, 0.9, 1]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(1)
    torch.testing.assert_close(Bernoulli().nll(logits, images), expected)


def test_the_gaussian_nll_equals_that_of_torch_distributions() -> None:
    logits, images = torch.randn(3, 4, 4, 1), torch.rand(3, 4, 4, 1)
    expected = -torch.distributions.Normal(torch.sigmoid(logits), 0.3).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(0.3).nll(logits, images), expected)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(0.2), Gaussian(0.2, outputs_pixels=True)])
def test_the_gradient_of_a_likelihood_is_that_of_its_nll(likelihood: Likelihood) -> None:
    logits = torch.randn(3, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    images = torch.rand(3, 4, 4, 1, dtype=torch.float64)
    (expected,) = torch.autograd.grad(likelihood.nll(logits, images).sum(), logits)
    torch.testing.assert_close(likelihood.gradient(logits.detach(), images), expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_denoiser_is_that_of_a_sigma_for_each_image() -> None:
    likelihood = Gaussian(None, outputs_pixels=True)
    output = torch.randn(3, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    images = torch.rand(3, 4, 4, 1, dtype=torch.float64)
    mse = (output - images).square().flatten(1).mean(1)
    plain = 0.5 * images[0].numel() * (mse + likelihood.MIN_IMAGE_SIGMA**2).log()
    (expected,) = torch.autograd.grad(plain.sum(), output)
    torch.testing.assert_close(likelihood.gradient(output.detach(), images), expected, rtol=1e-5, atol=1e-6)


def test_a_learned_sigma_maximizes_the_likelihood() -> None:
    likelihood = Gaussian(None)
    logits, images = torch.zeros(50, 8, 8, 1), 0.5 + 0.1 * torch.randn(50, 8, 8, 1, generator=torch.Generator().manual_seed(0))
    likelihood.update(logits, images)
    assert likelihood.sigma == pytest.approx(0.1, rel=0.05)
    best = likelihood.nll(logits, images).mean()
    assert all(best < Gaussian(likelihood.sigma * factor).nll(logits, images).mean() for factor in (0.9, 1.1))
    given = Gaussian(0.3)
    given.update(logits, images)
    assert given.sigma == pytest.approx(0.3)


def test_several_samples_of_z_per_image_follow_each_other() -> None:
    network = build_mlp((4, 4, 1), 3, [8], variational=True)
    encoder, decoder = build_module(network.encoder), build_module(network.decoder)
    images = torch.rand(2, 4, 4, 1)
    single = losses.forward(encoder, decoder[:-1], images, 3, torch.zeros, 1)
    several = losses.forward(encoder, decoder[:-1], images, 3, torch.zeros, 5)
    torch.testing.assert_close(several.logits, single.logits.repeat_interleave(5, 0))
    torch.testing.assert_close(single.kl, several.kl)


def linear_output(weights: torch.Tensor, samples: int) -> tuple[Output, torch.Tensor]:
    """The output of a linear decoder for 5 images with posteriors N(mu, I), and the images; mu is the first column of weights."""
    random = torch.Generator().manual_seed(0)
    epsilon = torch.randn(5 * samples, 6, dtype=torch.float64, generator=random)
    z = weights[:, 0].expand(5 * samples, 6) + epsilon
    log_ratio = losses.through_z(z, epsilon, torch.zeros_like(epsilon))
    clean = torch.rand(5, 1, 1, 4, dtype=torch.float64, generator=random)
    logits = (z @ weights).view(-1, 1, 1, 4)
    return Output(logits, log_ratio.view(5, samples).mean(1), z, log_ratio), clean.repeat_interleave(samples, 0)


def test_backward_gives_the_gradient_of_the_loss() -> None:
    weights = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    output, target = linear_output(weights, 3)
    kl = output.kl.repeat_interleave(3)
    loss = losses.neg_elbo(Bernoulli().nll(output.logits, target), kl, 0.7).mean()
    (expected,) = torch.autograd.grad(loss, weights, retain_graph=True)
    losses.backward(Bernoulli(), output, target, 0.7)
    torch.testing.assert_close(weights.grad, expected)


def test_the_importance_weighted_bound_teaches_the_encoder_by_the_squares_of_its_weights() -> None:
    weights = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    output, target = linear_output(weights, 3)
    nll = Bernoulli().nll(output.logits, target)
    log_weights = (-nll - output.log_ratio).view(5, 3)
    (decoder,) = torch.autograd.grad((math.log(3) - log_weights.logsumexp(1)).mean(), output.logits, retain_graph=True)
    shares = log_weights.softmax(1).detach().flatten()
    (through,) = torch.autograd.grad((nll + output.log_ratio).sum() / 5, output.z, retain_graph=True)
    fixed = Bernoulli().nll((output.z.detach() @ weights).view(-1, 1, 1, 4), target)
    (expected,) = torch.autograd.grad((shares * fixed).sum() / 5, weights)
    expected[:, 0] += (shares.square()[:, None] * through).sum(0)
    output.logits.retain_grad()
    losses.backward_iwae(Bernoulli(), output, target, 1)
    torch.testing.assert_close(output.logits.grad, decoder)
    torch.testing.assert_close(weights.grad, expected)


def test_importance_sampling_estimates_the_likelihood_of_a_linear_gaussian_model() -> None:
    """x = W z + b + sigma * noise has x ~ N(b, W W' + sigma^2 I), known exactly."""
    random = torch.Generator().manual_seed(0)
    weights, bias, sigma = torch.randn(6, 2, generator=random), torch.randn(6, generator=random), 0.5
    x = torch.randn(4, 6, generator=random) + bias
    exact = -torch.distributions.MultivariateNormal(bias, weights @ weights.T + sigma**2 * torch.eye(6)).log_prob(x)
    posterior = torch.linalg.inv(torch.eye(2) + weights.T @ weights / sigma**2)
    mu = (x - bias) @ weights @ posterior / sigma**2
    # Wider than the posterior and with independent dimensions; from the posterior itself, all weights would be equal.
    logvar = (1.5 * posterior.diagonal()).log().expand(4, 2)

    def log_likelihood(z: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(z @ weights.T + bias, sigma).log_prob(x[:, None]).sum(2)

    def normal(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    torch.testing.assert_close(
        losses.importance_nlls(mu, logvar, log_likelihood, [losses.log_normal], 50_000, normal)[0], exact, atol=0.02, rtol=0
    )
    # One sample gives -ELBO, an upper bound, which more samples tighten.
    one, ten = (
        torch.stack(
            [losses.importance_nlls(mu, logvar, log_likelihood, [losses.log_normal], k, normal)[0] for _ in range(400)]
        ).mean(0)
        for k in (1, 10)
    )
    assert (one > ten).all() and (ten > exact - 0.02).all()


def test_importance_sampling_decodes_a_bounded_number_of_latents_at_once() -> None:
    largest = 0

    def log_likelihood(z: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, z.shape[0] * z.shape[1])
        return z.sum(2)

    losses.importance_nlls(torch.zeros(10, 2), torch.zeros(10, 2), log_likelihood, [losses.log_normal], 5003, torch.zeros)
    assert largest <= 2048


def test_reparameterized_samples_have_mean_mu_and_standard_deviation_sigma() -> None:
    mu, logvar = torch.full((20000, 1), 2.0), torch.full((20000, 1), math.log(0.25))
    z = losses.reparameterize(mu, logvar, torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)))
    assert abs(z.mean().item() - 2) < 0.02
    assert abs(z.std().item() - 0.5) < 0.02


def test_an_autoencoder_without_a_distribution_has_no_kl_and_samples_nothing() -> None:
    network = build_mlp((4, 4, 1), 3, [8], variational=False)
    encoder, decoder = build_module(network.encoder), build_module(network.decoder)

    def never(shape: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("something was sampled")

    output = losses.forward(encoder, decoder[:-1], torch.rand(5, 4, 4, 1), 3, never)
    assert output.logits.shape == (5, 4, 4, 1)
    assert output.kl.tolist() == [0] * 5
