"""Frechet distance of samples to the MNIST test set, in the features of a small classifier (the smaller the better).

python tests/benchmarks/frechet.py vae.safetensors

Prints the accuracy of the classifier, which is trained first, then the distances: of the latents of test images, decoded, which
no sample is likely to beat; and of 10,000 samples of either prior. Distances depend on the classifier: compare those of one call.
"""

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import vaectl
from vaectl.base.errors import VaectlError
from vaectl.datasets.load import load_dataset

N_SAMPLES = 10_000
N_FEATURES = 64


def train_classifier(images: Tensor, labels: Tensor, epochs: int = 2) -> tuple[nn.Module, nn.Module]:
    """The features of a convolutional classifier, and the layer that classifies them."""
    torch.manual_seed(0)
    features = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, N_FEATURES), nn.ReLU()),
    )
    head = nn.Linear(N_FEATURES, 10)
    adam = torch.optim.Adam([*features.parameters(), *head.parameters()], 2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(100):
            loss = nn.functional.cross_entropy(head(features(images[chosen])), labels[chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return features, head


def frechet_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The Frechet distance between Gaussians fitted to features (N, F) (Heusel et al. 2017, equation 6)."""
    (mean, covariance), (other_mean, other_covariance) = ((part.mean(0), np.cov(part.T)) for part in (one, other))
    root = np.sqrt(np.linalg.eigvals(covariance @ other_covariance).astype(complex)).real.sum()
    return float(np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * root)


def main(path: str) -> None:
    """Print the table."""
    model, mnist = vaectl.load(path), load_dataset("mnist")
    train, test = (torch.from_numpy(np.asarray(part)).permute(0, 3, 1, 2).float() / 255 for part in (mnist.train, mnist.test))
    labels, test_labels = (torch.tensor([int(label) for label in part]) for part in (mnist.train_labels, mnist.test_labels))
    features, head = train_classifier(train, labels)

    @torch.inference_mode()
    def extract(images: Tensor) -> NDArray[np.float64]:
        return torch.cat([features(part) for part in images.split(1000)]).double().numpy()

    reference = extract(test)
    with torch.inference_mode():
        accuracy = (head(torch.from_numpy(reference).float()).argmax(1) == test_labels).float().mean().item()
    print(f"accuracy of the classifier: {accuracy:.2%}")

    def report(name: str, images: NDArray[np.float32]) -> None:
        print(f"{name:<24}{frechet_distance(extract(torch.from_numpy(images).permute(0, 3, 1, 2)), reference):8.2f}")

    report("reconstructions", model.reconstruct("mnist:test"))
    for prior in ("learned", "normal"):
        try:
            report(f"prior {prior}", model.sample(N_SAMPLES, seed=0, prior=prior))
        except VaectlError as error:
            print(f"prior {prior}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
