"""How good a model is, in nats and in dB, and where its latents lie."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vaectl import corruption, latents, objective
from vaectl.engines.torch import module
from vaectl.latents import LatentStatistics
from vaectl.networks import Network, weights_of

Tensors = Mapping[str, NDArray[np.float32]]

BATCH = 1000
ENOUGH = 10_000  # pictures: their percentiles no longer move


@torch.inference_mode()
def figures(
    network: Network, tensors: Tensors, pictures: NDArray[np.uint8], corrupt: tuple[str, ...], device: str, seed: int
) -> dict[str, float]:
    """The objective and the quality of reconstruction on pictures, (N, H, W, C) bytes; all are means over the pictures.

    Returns:
        `neg_elbo` = `reconstruction` + `kl`, nats an image, for one z ~ q(z|x); grey values are taken as probabilities, so that
        nothing is binarized. `mse`, over pixels in [0, 1]. `psnr`, in dB, each picture's own. With `corrupt`, they compare
        what is made of spoiled pictures with the clean ones, and `psnr_before` says how bad the spoiled ones are.
    """
    random = Generator(device).manual_seed(seed)
    encoder, decoder = (module(rows, weights_of(half, tensors)).to(device) for half, rows in network.halves())
    spoil = corruption.parse(corrupt)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=random, device=device)

    rows = []
    for batch in torch.from_numpy(pictures).split(BATCH):
        clean = batch.to(device).float() / 255
        spoiled = clean
        for corrupt_one in spoil:
            spoiled = corrupt_one(spoiled, normal)
        logits, kl = objective.forward(encoder, decoder[:-1], spoiled, network.latent, normal)
        reconstruction = objective.bernoulli_nll(logits, clean)
        before, after = mean_square(spoiled, clean), mean_square(decoder[-1](logits), clean)
        rows.append(torch.stack([reconstruction + kl, reconstruction, kl, after, decibels(after), decibels(before)]))
    neg_elbo, reconstruction, kl, mse, psnr, before = torch.cat(rows, dim=1).cpu().double().mean(1).tolist()
    found = {"neg_elbo": neg_elbo, "reconstruction": reconstruction, "kl": kl, "mse": mse, "psnr": psnr}
    return found | ({"psnr_before": before} if spoil else {})


def mean_square(pictures: Tensor, clean: Tensor) -> Tensor:
    """The mean squared difference over the pixels of each picture, (N,)."""
    return (pictures - clean).square().flatten(1).mean(1)


def decibels(mean_square: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of a mean squared difference, in dB, where the peak is 1."""
    return -10 * mean_square.clamp(min=1e-10).log10()


@torch.inference_mode()
def latent_statistics(network: Network, tensors: Tensors, pictures: NDArray[np.uint8], device: str) -> LatentStatistics:
    """Where the latents of pictures lie, at mu for a VAE; of many pictures, every so manieth is looked at."""
    encoder = module(network.encoder, weights_of("encoder", tensors)).to(device)
    chosen = torch.from_numpy(pictures[:: max(1, len(pictures) // ENOUGH)])
    z = torch.cat([encoder(batch.to(device).float() / 255)[:, : network.latent].cpu() for batch in chosen.split(BATCH)])
    return latents.statistics(z.numpy())
