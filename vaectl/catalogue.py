"""Data sets by name: the bundled one, and those that torchvision knows how to download."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUNDLED = "mnist"


@dataclass(frozen=True)
class Named:
    """A class of torchvision.datasets, and what it is called with for either split; whether its pictures lie on their side."""

    kind: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    sideways: bool = False


BY_FLAG = ({"train": True}, {"train": False})
BY_SPLIT = ({"split": "train"}, {"split": "test"})

DOWNLOADED = {
    "fashion-mnist": Named("FashionMNIST", *BY_FLAG),
    "kmnist": Named("KMNIST", *BY_FLAG),
    "emnist": Named("EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}, sideways=True),
    "qmnist": Named("QMNIST", {"what": "train"}, {"what": "test"}),
    "usps": Named("USPS", *BY_FLAG),
    "svhn": Named("SVHN", *BY_SPLIT),
    "cifar10": Named("CIFAR10", *BY_FLAG),
    "cifar100": Named("CIFAR100", *BY_FLAG),
    "stl10": Named("STL10", {"split": "train+unlabeled"}, {"split": "test"}),
    "celeba": Named("CelebA", *BY_SPLIT),
    "flowers102": Named("Flowers102", *BY_SPLIT),
    "pets": Named("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "food101": Named("Food101", *BY_SPLIT),
}

NAMES = (BUNDLED, *DOWNLOADED)
