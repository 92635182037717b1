"""Data sets by name: the bundled one, and those that torchvision downloads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUNDLED = "mnist"


@dataclass(frozen=True)
class TorchvisionDataset:
    """A class of torchvision.datasets, the arguments that select each split, and whether its images must be transposed."""

    class_name: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    transposed: bool = False


BY_FLAG = ({"train": True}, {"train": False})
BY_SPLIT = ({"split": "train"}, {"split": "test"})

DOWNLOADABLE = {
    "fashion-mnist": TorchvisionDataset("FashionMNIST", *BY_FLAG),
    "kmnist": TorchvisionDataset("KMNIST", *BY_FLAG),
    "emnist": TorchvisionDataset(
        "EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}, transposed=True
    ),
    "qmnist": TorchvisionDataset("QMNIST", {"what": "train"}, {"what": "test"}),
    "usps": TorchvisionDataset("USPS", *BY_FLAG),
    "svhn": TorchvisionDataset("SVHN", *BY_SPLIT),
    "cifar10": TorchvisionDataset("CIFAR10", *BY_FLAG),
    "cifar100": TorchvisionDataset("CIFAR100", *BY_FLAG),
    "stl10": TorchvisionDataset("STL10", {"split": "train+unlabeled"}, {"split": "test"}),
    "celeba": TorchvisionDataset("CelebA", *BY_SPLIT),
    "flowers102": TorchvisionDataset("Flowers102", *BY_SPLIT),
    "pets": TorchvisionDataset("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "food101": TorchvisionDataset("Food101", *BY_SPLIT),
}

NAMES = (BUNDLED, *DOWNLOADABLE)
SPLITS = ("train", "test")
