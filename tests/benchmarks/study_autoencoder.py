"""The study's autoencoder, plain or denoising: 784-256-128-64 and back, ReLU, tanh at the end, on pixels in [-1, 1].

Batches of 128, Adam at 1e-3, mean squared error. MSE and PSNR are printed for pixels in [0, 1], like those of vaectl.

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

from vaectl.datasets.load import load_dataset

WIDTHS = (784, 256, 128, 64)


def linear_layers(widths: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU after each."""
    pairs = pairwise(widths)
    return nn.Sequential(*(layer for before, after in pairs for layer in (nn.Linear(before, after), nn.ReLU())))


def main(epochs: int, sigma: float) -> None:
    torch.manual_seed(0)
    mnist = load_dataset("mnist")
    train, test = (DataLoader(Digits(torch.from_numpy(part[..., 0])), 128, shuffle=True) for part in (mnist.train, mnist.test))
    model = nn.Sequential(linear_layers(WIDTHS), linear_layers(WIDTHS[::-1])[:-1], nn.Tanh())
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def corrupt(x: Tensor) -> Tensor:
        return (x + sigma * torch.randn_like(x)).clamp(-1, 1) if sigma else x

    start = time.perf_counter()
    for _ in range(epochs):
        for batch in train:
            x = 2 * batch.flatten(1) - 1
            loss = functional.mse_loss(model(corrupt(x)), x)
            adam.zero_grad()
            loss.backward()
            adam.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        pairs = ((model(corrupt(x)), x) for x in (2 * batch.flatten(1) - 1 for batch in test))
        mse = torch.cat([((decoded - x) / 2).square().mean(1) for decoded, x in pairs])
    print(f"{epochs} epochs: {seconds:.1f} s, MSE {mse.mean():.5f}, PSNR {(-10 * mse.log10()).mean():.2f} dB")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
