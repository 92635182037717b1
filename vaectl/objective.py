"""The one objective of all three models: -log p(x|z) + beta * KL(q(z|x) || N(0, I)), in nats an image.

Sums run over pixels and over latent dimensions, never means: a mean over 784 pixels would drown the reconstruction in the KL.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def forward(
    encoder: nn.Module, decoder: nn.Module, pictures: Tensor, latent: int, normal: Callable[[tuple[int, ...]], Tensor]
) -> tuple[Tensor, Tensor]:
    """The logits of p(x|z), (N, H, W, C), and the KL of each picture, (N,) nats, for one z ~ q(z|x).

    An encoder that ends in `latent` values gives z itself: then nothing is drawn and the KL is 0, without a gradient.
    """
    encoded = encoder(pictures)
    if encoded.shape[1] == latent:
        return decoder(encoded), encoded.new_zeros(len(encoded))
    mu, logvar = encoded.float().chunk(2, dim=1)
    z = reparameterized(mu, logvar, normal(tuple(mu.shape)))
    return decoder(z.to(encoded.dtype)), kl(mu, logvar)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) of each picture, (N,) nats, from (N, D) (Kingma & Welling, appendix B)."""
    return 0.5 * (mu * mu + logvar.exp() - 1 - logvar).sum(1)


def reparameterized(mu: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """z = mu + sigma * epsilon, through which the gradient reaches mu and sigma (Kingma & Welling, section 2.4)."""
    return mu + torch.exp(0.5 * logvar) * epsilon


def bernoulli_nll(logits: Tensor, pictures: Tensor) -> Tensor:
    """-log p(x|z) of each picture, (N,) nats, its grey values taken as probabilities (Kingma & Welling, equation 11)."""
    return functional.binary_cross_entropy_with_logits(logits, pictures, reduction="none").flatten(1).sum(1)


def bernoulli_residual(logits: Tensor, pictures: Tensor) -> Tensor:
    """The gradient of `bernoulli_nll` by the logits, of their shape: what the decoder shows too much."""
    return torch.sigmoid(logits) - pictures
