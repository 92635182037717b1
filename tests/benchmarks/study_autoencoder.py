"""The study's own autoencoder, plain or denoising: 784-256-128-64 and back, ReLU, tanh at the end, on pictures in [-1, 1].

Batches of 128, Adam at 1e-3, the mean squared error; what it reaches is told on [0, 1], as vaectl tells it.

    python tests/benchmarks/study_autoencoder.py EPOCHS [SIGMA]
"""

import sys
import time
from itertools import pairwise

import torch
from study import Digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from vaectl import datasets

WIDTHS = (784, 256, 128, 64)


def half(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU after each."""
    pairs = pairwise(widths)
    return nn.Sequential(*(layer for inputs, outputs in pairs for layer in (nn.Linear(inputs, outputs), nn.ReLU())))


def main(epochs: int, sigma: float) -> None:
    torch.manual_seed(0)
    mnist = datasets.load("mnist")
    train, test = (DataLoader(Digits(torch.from_numpy(part[..., 0])), 128, shuffle=True) for part in (mnist.train, mnist.test))
    model = nn.Sequential(half(WIDTHS), half(WIDTHS[::-1])[:-1], nn.Tanh())
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def spoiled(x: Tensor) -> Tensor:
        return (x + sigma * torch.randn_like(x)).clamp(-1, 1) if sigma else x

    start = time.perf_counter()
    for _ in range(epochs):
        for batch in train:
            x = 2 * batch.flatten(1) - 1
            loss = functional.mse_loss(model(spoiled(x)), x)
            adam.zero_grad()
            loss.backward()
            adam.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        pairs = ((model(spoiled(x)), x) for x in (2 * batch.flatten(1) - 1 for batch in test))
        mse = torch.cat([((decoded - x) / 2).square().mean(1) for decoded, x in pairs])
    print(f"{epochs} epochs: {seconds:.1f} s, MSE {mse.mean():.5f}, PSNR {(-10 * mse.log10()).mean():.2f} dB")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
