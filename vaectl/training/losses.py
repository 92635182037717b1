"""The objective of all three models, -ELBO = -log p(x|z) + beta * KL(q(z|x) || N(0, I)), in nats per image.

Sums run over pixels and over latent dimensions, never means: a mean over 784 pixels would drown the reconstruction in the KL.
First the equations of Kingma & Welling (2014), then what training computes in their place because it is faster.
"""

from collections.abc import Callable, Sequence
from math import log, pi, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaectl.training.distributed import ALONE, World

Normal = Callable[[tuple[int, ...]], Tensor]


def reparameterize(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """z = mu + sigma * epsilon with epsilon ~ N(0, I): a sample of q(z|x) that passes gradients to mu and sigma (section 2.4)."""
    return mu + torch.exp(0.5 * logvar) * epsilon


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|x) || p(z)) of q(z|x) = N(mu, exp(logvar)) and p(z) = N(0, I), from (N, D): (N,) nats (appendix B)."""
    return 0.5 * (mu * mu + logvar.exp() - 1 - logvar).sum(1)


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """-log p(x|z) of pixels that are 1 with probability sigmoid(logits), (N,) nats (equation 11)."""
    return (functional.softplus(logits) - logits * x).flatten(1).sum(1)


def gaussian_nll(mean: Tensor, x: Tensor, variance: Tensor) -> Tensor:
    """-log p(x|z) of values that are normal around a mean, (N,) nats (equation 12)."""
    squares = (mean - x).square().flatten(1)
    return squares.sum(1) / (2 * variance) + 0.5 * squares.shape[1] * torch.log(2 * pi * variance)


def neg_elbo(nll: Any, kl: Any, beta: float = 1.0) -> Any:
    """-ELBO of images, whose -log p(x|z) is that of one z ~ q(z|x) or the mean of several (equation 10)."""
    return nll + beta * kl


class Bernoulli:
    """p(x|z) where each pixel is white or black; gray values count as probabilities."""

    sigma = None

    def nll(self, logits: Tensor, images: Tensor) -> Tensor:
        """-log p(x|z) of each image, (N,) nats."""
        return bernoulli_nll(logits, images)

    def gradient(self, logits: Tensor, images: Tensor) -> Tensor:
        """The gradient of `nll(logits, images).sum()` with respect to the logits."""
        return torch.sigmoid(logits) - images

    def update(self, logits: Tensor, images: Tensor, world: World = ALONE) -> None:
        """Learn the likelihood's own parameters from a batch; it has none."""

    def state(self) -> Tensor:
        """The learned parameters, exactly."""
        return torch.empty(0, dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        """Restore what `state` returned."""


class Gaussian:
    """p(x|z) where each value is normal around its mean, with one sigma for all.

    The mean is the sigmoid of the logits, or with `outputs_pixels` the output itself. If no sigma is given, it is the maximum
    likelihood estimate over recent images: the root of their mean squared error (Rybkin, Daniilidis & Levine 2021, section 4.2).

    With `outputs_pixels` and no sigma, each image has a sigma of its own, and the gradient is that of
    `0.5 * values * log(mse + MIN_IMAGE_SIGMA**2)`: so a step raises the mean PSNR, in which a decibel counts as much for little
    noise as for much.
    """

    UPDATE_RATE = 0.05
    MIN_SIGMA = 1e-3  # a quarter of a gray level: constant images would have none at all
    MIN_IMAGE_SIGMA = 3e-3  # of a single image, 50 dB: clean ones would outweigh all others

    def __init__(self, sigma: float | None, *, outputs_pixels: bool = False) -> None:
        self.outputs_pixels = outputs_pixels
        self.learns = sigma is None
        self.variance = torch.tensor(1.0 if sigma is None else sigma**2)
        self.rate = 1.0

    @property
    def sigma(self) -> float:
        """The standard deviation of a pixel."""
        return self.variance.sqrt().item()

    def mean(self, logits: Tensor) -> Tensor:
        """The mean of every value."""
        return logits if self.outputs_pixels else torch.sigmoid(logits)

    def nll(self, logits: Tensor, images: Tensor) -> Tensor:
        return gaussian_nll(self.mean(logits), images, self.variance.to(logits.device))

    def gradient(self, logits: Tensor, images: Tensor) -> Tensor:
        mean = self.mean(logits)
        error = mean - images
        if self.outputs_pixels and self.learns:
            mse = error.float().square().flatten(1).mean(1)
            return error / (mse + self.MIN_IMAGE_SIGMA**2).to(error.dtype).view(-1, 1, 1, 1)
        slope = 1 if self.outputs_pixels else mean * (1 - mean)
        return error * slope / self.variance.to(mean.device, mean.dtype)

    def update(self, logits: Tensor, images: Tensor, world: World = ALONE) -> None:
        if self.learns:
            mse = world.mean((self.mean(logits.float()) - images.float()).square().mean()).clamp(min=self.MIN_SIGMA**2)
            self.variance = torch.lerp(self.variance.to(mse.device), mse, self.rate)
            self.rate = self.UPDATE_RATE

    def state(self) -> Tensor:
        return torch.tensor([self.variance.item(), self.rate], dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        self.variance, self.rate = state[0].float(), state[1].item()


Likelihood = Bernoulli | Gaussian


def calibrate(sigma: float, nll: float, values: int) -> float:
    """The sigma under which images of so many values, whose mean `nll` under a Gaussian of `sigma` is given, are most likely.

    It is the root of their mean squared error (Rybkin, Daniilidis & Levine 2021, section 4.2).
    """
    mse = 2 * sigma**2 * (nll / values - 0.5 * log(2 * pi * sigma**2))
    return max(sqrt(mse), Gaussian.MIN_SIGMA)


def make_likelihood(name: str, sigma: float | None, outputs_pixels: bool = False) -> Likelihood:
    """The likelihood "bernoulli" or "gaussian"; the arguments are those of `Gaussian`."""
    return Bernoulli() if name == "bernoulli" else Gaussian(sigma, outputs_pixels=outputs_pixels)


class Output(NamedTuple):
    """What a network computes for N images, with `samples` of z each.

    `logits` of p(x|z), (N * samples, H, W, C); the `kl` of each image, (N,) nats; z, (N * samples, D); and `log_ratio`,
    log q(z|x) - log p(z) of each sample, (N * samples,) nats.
    """

    logits: Tensor
    kl: Tensor
    z: Tensor
    log_ratio: Tensor


def forward(encoder: nn.Module, decoder: nn.Module, images: Tensor, latent_dim: int, normal: Normal, samples: int = 1) -> Output:
    """Encode images, sample z ~ q(z|x) `samples` times for each in turn, and decode.

    An encoder that ends in `latent_dim` values gives z itself, and that of a network without a latent passes images through: then
    nothing is sampled, and the KL is 0.
    """
    encoded = encoder(images)
    if latent_dim in (0, encoded.shape[1]):
        zeros = encoded.new_zeros(len(encoded))
        return Output(decoder(encoded), zeros, encoded, zeros)
    mu, logvar = encoded.float().chunk(2, dim=1)
    mu_samples, logvar_samples = repeat(mu, samples), repeat(logvar, samples)
    epsilon = normal(tuple(mu_samples.shape))
    z = reparameterize(mu_samples, logvar_samples, epsilon)
    log_ratio = through_z(z, epsilon, logvar_samples)
    kl = kl_divergence(mu, logvar)
    # The analytic KL, with the gradient of the samples.
    sampled = log_ratio.view(len(kl), -1).mean(1)
    return Output(decoder(z.to(encoded.dtype)), sampled + (kl - sampled).detach(), z, log_ratio)


def repeat(batch: Tensor, times: int) -> Tensor:
    """Each item `times` times in a row."""
    return batch if times == 1 else batch.repeat_interleave(times, dim=0)


def through_z(z: Tensor, epsilon: Tensor, logvar: Tensor) -> Tensor:
    """log q(z|x) - log p(z) of samples, (N,) nats, whose gradient reaches mu and sigma through z alone (Roeder et al. 2017).

    Its value equals that of the log-densities, and its mean that of `kl_divergence`, gradients included; the variance of the
    gradient vanishes as q(z|x) approaches the posterior.
    """
    # d/dz, with the parameters of q held fixed.
    score = (z - epsilon * torch.exp(-0.5 * logvar)).detach()
    value = 0.5 * (z.square() - epsilon.square() - logvar).sum(1)
    path = (z * score).sum(1)
    return path + (value - path).detach()


def log_weights(likelihood: Likelihood, output: Output, target: Tensor, beta: float) -> Tensor:
    """log p(x|z) - beta * (log q(z|x) - log p(z)) of every sample, (N, samples) nats, without a gradient."""
    nll = likelihood.nll(output.logits.detach().float(), target.float())
    return -(nll + beta * output.log_ratio.detach()).view(len(output.kl), -1)


def backward(likelihood: Likelihood, output: Output, target: Tensor, beta: float) -> None:
    """Backpropagate the mean of -ELBO: equals `neg_elbo(likelihood.nll(logits, target), kl, beta).mean().backward()`.

    The gradient of the likelihood is passed in directly: computing the loss itself costs more, and is needed for logging only.
    """
    gradient = likelihood.gradient(output.logits.detach(), target) / len(target)
    ((output.logits * gradient).sum() + beta * output.kl.mean()).backward()


def backward_iwae(likelihood: Likelihood, output: Output, target: Tensor, beta: float) -> None:
    """Backpropagate the mean of the importance-weighted bound, -log mean(p(x, z) / q(z|x)) (Burda et al. 2016, equation 8).

    The decoder's gradient equals that of `(log(samples) - log_weights(...).logsumexp(1)).mean()`. The encoder's has the same mean
    and less variance: samples count by the squares of their normalized weights (DReG: Tucker et al. 2019).
    """
    count = len(output.kl)
    weights = log_weights(likelihood, output, target, beta).softmax(1).flatten()
    output.z.register_hook(lambda gradient: gradient * weights[:, None])
    gradient = likelihood.gradient(output.logits.detach(), target) * (weights / count).view(-1, 1, 1, 1).to(output.logits.dtype)
    ((output.logits * gradient).sum() + beta * (weights * output.log_ratio).sum() / count).backward()


LogDensity = Callable[[Tensor], Tensor]  # of latents (..., D), in nats


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of latents (..., D), in nats."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * log(2 * pi))


def importance_nlls(
    mu: Tensor,
    logvar: Tensor,
    log_likelihood: LogDensity,
    log_priors: Sequence[LogDensity],
    samples: int,
    normal: Normal,
    max_latents: int = 2048,
) -> list[Tensor]:
    """-log p(x) of each image, (N,) nats, under each prior, by importance sampling from q(z|x) (Burda et al. 2016, equation 8).

    Each is an upper bound that falls with the number of samples. `log_likelihood` maps z (N, K, D) to log p(x|z), (N, K) nats; it
    is called with at most `max_latents` latents, however many samples are asked for.
    """
    totals = [mu.new_full((len(mu),), -torch.inf) for _ in log_priors]
    for count in chunk_sizes(samples, max(1, max_latents // len(mu))):
        epsilon = normal((len(mu), count, mu.shape[1]))
        z = reparameterize(mu[:, None], logvar[:, None], epsilon)
        # log p(x|z) - log q(z|x)
        log_weight = log_likelihood(z) - log_normal(epsilon) + 0.5 * logvar[:, None].sum(2)
        totals = [
            torch.logaddexp(total, torch.logsumexp(log_weight + log_prior(z), dim=1))
            for total, log_prior in zip(totals, log_priors, strict=True)
        ]
    return [log(samples) - total for total in totals]


def chunk_sizes(count: int, size: int) -> list[int]:
    """`count` in chunks of at most `size`."""
    return [min(size, count - start) for start in range(0, count, size)]
