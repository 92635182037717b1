"""The plain PyTorch VAE of the study that vaectl grew out of: the baseline for speed and quality.

A DataLoader with ToTensor, batches of 64, ReLU, Adam at 1e-3, and the sum of cross-entropy and KL as loss.

    python tests/benchmarks/study.py EPOCHS LATENT
"""

import sys
import time

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vaectl.datasets.load import load_dataset


class Digits(Dataset[Tensor]):
    """MNIST image by image, as torchvision returns it."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.to_tensor = transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        result: Tensor = self.to_tensor(Image.fromarray(self.images[index].numpy()))
        return result


class VAE(nn.Module):
    """784-500-500-latent_dim and back."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU())
        self.mu, self.logvar = nn.Linear(500, latent_dim), nn.Linear(500, latent_dim)
        decoder = (nn.Linear(latent_dim, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 784), nn.Sigmoid())
        self.decoder = nn.Sequential(*decoder)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.encoder(x)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        return self.decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu)), mu, logvar


def neg_elbo(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """-ELBO, summed over the batch."""
    kl = -0.5 * torch.sum(1 + logvar - mu.square() - logvar.exp())
    return functional.binary_cross_entropy(decoded, x, reduction="sum") + kl


def main(epochs: int, latent_dim: int) -> None:
    torch.manual_seed(0)
    mnist = load_dataset("mnist")
    train, test = (DataLoader(Digits(torch.from_numpy(part[..., 0])), 64, shuffle=True) for part in (mnist.train, mnist.test))
    model = VAE(latent_dim)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        start = time.perf_counter()
        for batch in train:
            x = batch.flatten(1)
            loss = neg_elbo(x, *model(x)) / len(x)
            adam.zero_grad()
            loss.backward()
            adam.step()
        seconds = time.perf_counter() - start
        with torch.no_grad():
            total = sum(neg_elbo(x, *model(x)).item() for x in (batch.flatten(1) for batch in test))
        print(f"epoch {epoch + 1}: {seconds:.1f} s, test -ELBO {total / len(mnist.test):.2f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
