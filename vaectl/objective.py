"""The one objective of all three models: -log p(x|z) + beta * KL(q(z|x) || N(0, I)), in nats an image.

Sums run over pixels and over latent dimensions, never means: a mean over 784 pixels would drown the reconstruction in the KL.
"""

from collections.abc import Callable
from math import log, pi
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

Normal = Callable[[tuple[int, ...]], Tensor]


class Likelihood(Protocol):
    """What p(x|z) is, given what the decoder puts out before its last row: logits, or pixels where that row is a clip."""

    def nll(self, logits: Tensor, pictures: Tensor) -> Tensor:
        """-log p(x|z) of each picture, (N,) nats."""

    def residual(self, logits: Tensor, pictures: Tensor) -> Tensor:
        """The gradient of `nll` by the logits, of their shape: what the decoder shows too much."""

    def observe(self, logits: Tensor, pictures: Tensor) -> None:
        """Learn from a batch what the likelihood itself has to learn."""

    @property
    def sigma(self) -> float | None:
        """The standard deviation of a pixel, where it has one."""

    def state(self) -> Tensor:
        """What was learned so far, to the last bit."""

    def go_on(self, state: Tensor) -> None:
        """Go on from such a state."""


class Bernoulli:
    """Each pixel is white or black; grey values count as probabilities (Kingma & Welling, equation 11)."""

    sigma = None

    def nll(self, logits: Tensor, pictures: Tensor) -> Tensor:
        return (functional.softplus(logits) - logits * pictures).flatten(1).sum(1)

    def residual(self, logits: Tensor, pictures: Tensor) -> Tensor:
        return torch.sigmoid(logits) - pictures

    def observe(self, logits: Tensor, pictures: Tensor) -> None:
        pass

    def state(self) -> Tensor:
        return torch.empty(0, dtype=torch.float64)

    def go_on(self, state: Tensor) -> None:
        pass


class Gaussian:
    """Each value is normal around its mean with one sigma for all (Kingma & Welling, equation 12).

    The mean is the sigmoid of the logits, or what is put out itself where it is `linear`.

    Without a given sigma it is the one under which the pictures seen of late are likeliest, the root of their mean square
    (Rybkin, Daniilidis & Levine 2021, section 4.2).
    """

    WEIGHT = 0.05  # of each new batch
    SMALLEST = 1e-3  # a quarter of a grey level: constant pictures would have none at all

    def __init__(self, sigma: float | None, *, linear: bool = False) -> None:
        self.linear = linear
        self.learns = sigma is None
        self.variance = torch.tensor(1.0 if sigma is None else sigma**2)
        self.weight = 1.0

    @property
    def sigma(self) -> float:
        return self.variance.sqrt().item()

    def mean(self, logits: Tensor) -> Tensor:
        """The mean of every value."""
        return logits if self.linear else torch.sigmoid(logits)

    def nll(self, logits: Tensor, pictures: Tensor) -> Tensor:
        square = (self.mean(logits) - pictures).square().flatten(1)
        variance = self.variance.to(square.device)
        return square.sum(1) / (2 * variance) + 0.5 * square.shape[1] * torch.log(2 * pi * variance)

    def residual(self, logits: Tensor, pictures: Tensor) -> Tensor:
        mean = self.mean(logits)
        slope = 1 if self.linear else mean * (1 - mean)
        return (mean - pictures) * slope / self.variance.to(mean.device, mean.dtype)

    def observe(self, logits: Tensor, pictures: Tensor) -> None:
        if self.learns:
            square = (self.mean(logits.float()) - pictures.float()).square().mean().clamp(min=self.SMALLEST**2)
            self.variance = torch.lerp(self.variance.to(square.device), square, self.weight)
            self.weight = self.WEIGHT

    def state(self) -> Tensor:
        return torch.tensor([self.variance.item(), self.weight], dtype=torch.float64)

    def go_on(self, state: Tensor) -> None:
        self.variance, self.weight = state[0].float(), state[1].item()


def likelihood(name: str, sigma: float | None, linear: bool = False) -> Likelihood:
    """The likelihood called "bernoulli" or "gaussian"; without a given `sigma`, a Gaussian one learns it.

    `linear` is a Gaussian one around what is put out itself, not around its sigmoid.
    """
    return Bernoulli() if name == "bernoulli" else Gaussian(sigma, linear=linear)


def forward(
    encoder: nn.Module, decoder: nn.Module, pictures: Tensor, latent: int, normal: Normal, samples: int = 1
) -> tuple[Tensor, Tensor]:
    """The logits of p(x|z), (N * samples, H, W, C), and the KL of each picture, (N,) nats.

    For each picture in turn, z ~ q(z|x) is drawn `samples` times (the paper's L). An encoder that ends in `latent` values gives
    z itself, and without a latent, 0, pictures pass it as they are: then nothing is drawn, and the KL is 0, without a gradient.
    """
    encoded = encoder(pictures)
    if latent in (0, encoded.shape[1]):
        return decoder(encoded), encoded.new_zeros(len(encoded))
    mu, logvar = encoded.float().chunk(2, dim=1)
    many_mu, many_logvar = repeated(mu, samples), repeated(logvar, samples)
    epsilon = normal(tuple(many_mu.shape))
    z = reparameterized(many_mu, many_logvar, epsilon)
    return decoder(z.to(encoded.dtype)), sticking_the_landing(z, epsilon, many_logvar, kl(mu, logvar))


def repeated(rows: Tensor, times: int) -> Tensor:
    """Each row so many times in a row."""
    return rows if times == 1 else rows.repeat_interleave(times, dim=0)


def sticking_the_landing(z: Tensor, epsilon: Tensor, logvar: Tensor, kl: Tensor) -> Tensor:
    """The KL of each picture, (N,), whose gradient reaches mu and sigma through z alone (Roeder, Wu & Duvenaud 2017).

    The gradient is the KL's own in expectation. But as q(z|x) nears the posterior, it cancels that of the reconstruction draw by
    draw, so that its noise vanishes.
    """
    # d/dz of log q(z|x) - log p(z), with q held still.
    pull = (z - epsilon * torch.exp(-0.5 * logvar)).detach()
    through_z = (z * pull).sum(1).view(len(kl), -1).mean(1)
    return through_z + (kl - through_z).detach()


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) of each picture, (N,) nats, from (N, D) (Kingma & Welling, appendix B)."""
    return 0.5 * (mu * mu + logvar.exp() - 1 - logvar).sum(1)


def reparameterized(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """z = mu + sigma * epsilon, through which the gradient reaches mu and sigma (Kingma & Welling, section 2.4)."""
    return mu + torch.exp(0.5 * logvar) * epsilon


def importance_nll(
    mu: Tensor,
    logvar: Tensor,
    log_likelihood: Callable[[Tensor], Tensor],
    samples: int,
    normal: Normal,
    at_once: int = 2048,
) -> Tensor:
    """-log p(x) of each picture, (N,) nats, by importance sampling from q(z|x) (Burda et al. 2016, equation 8).

    It is an upper bound that falls with the number of samples, and is never above -ELBO but for chance. `log_likelihood` takes
    z, (N, K, D), and gives log p(x|z), (N, K) nats; N * K is at most `at_once`, however many samples are asked for.
    """
    total = mu.new_full((len(mu),), -torch.inf)
    for drawn in chunks(samples, max(1, at_once // len(mu))):
        epsilon = normal((len(mu), drawn, mu.shape[1]))
        z = reparameterized(mu[:, None], logvar[:, None], epsilon)
        # log p(z) - log q(z|x); the constants of both normals cancel.
        log_ratio = 0.5 * (epsilon.square() + logvar[:, None] - z.square()).sum(2)
        total = torch.logaddexp(total, torch.logsumexp(log_likelihood(z) + log_ratio, dim=1))
    return log(samples) - total


def chunks(count: int, size: int) -> list[int]:
    """`count` in parts of at most `size`."""
    return [min(size, count - start) for start in range(0, count, size)]
