import math

import torch

from vaectl import networks, objective
from vaectl.engines.torch import module


def test_the_kl_is_the_one_torch_computes_between_normals() -> None:
    mu, logvar = torch.randn(5, 3), torch.randn(5, 3)
    posterior = torch.distributions.Normal(mu, torch.exp(logvar / 2))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(objective.kl(mu, logvar), expected)
    assert objective.kl(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_the_reconstruction_is_summed_over_pixels() -> None:
    logits = torch.zeros(2, 28, 28, 1)
    torch.testing.assert_close(objective.bernoulli_nll(logits, torch.rand(2, 28, 28, 1)), torch.full((2,), 784 * math.log(2)))


def test_the_residual_is_the_gradient_of_the_reconstruction() -> None:
    logits = torch.randn(3, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    pictures = torch.rand(3, 4, 4, 1, dtype=torch.float64)
    (expected,) = torch.autograd.grad(objective.bernoulli_nll(logits, pictures).sum(), logits)
    torch.testing.assert_close(objective.bernoulli_residual(logits.detach(), pictures), expected)


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
