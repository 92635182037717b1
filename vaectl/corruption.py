"""What is done to a picture before it is encoded; the target stays clean (Vincent et al. 2008, the denoising autoencoder).

The functions use only what NumPy arrays and torch tensors share, so that training and the other verbs spoil pictures alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vaectl.errors import UsageError

# Standard normal draws of a shape, as an array or a tensor.
Normal = Callable[[tuple[int, ...]], Any]


def gaussian(pictures: Any, strength: float, normal: Normal) -> Any:
    """White noise of standard deviation `strength` on every pixel, clipped to [0, 1]."""
    return (pictures + strength * normal(tuple(pictures.shape))).clip(0, 1)


CORRUPTIONS: dict[str, Callable[[Any, float, Normal], Any]] = {"gaussian": gaussian}


@dataclass(frozen=True)
class Corruption:
    """One corruption and how strong it is, as written `gaussian:0.25`."""

    name: str
    strength: float

    def __call__(self, pictures: Any, normal: Normal) -> Any:
        return CORRUPTIONS[self.name](pictures, self.strength, normal)


def parse(specs: Sequence[str]) -> tuple[Corruption, ...]:
    """Corruptions from `NAME:STRENGTH`, in the order in which they are applied.

    Raises:
        UsageError: a name that is not known, or a strength that is no number above 0 and up to 1.
    """
    found = []
    for spec in specs:
        name, _, strength = spec.partition(":")
        try:
            corruption = Corruption(name, float(strength))
        except ValueError:
            corruption = Corruption("", 0)
        if corruption.name not in CORRUPTIONS or not 0 < corruption.strength <= 1:
            raise UsageError(
                f"{spec!r} is no corruption: write {' or '.join(f'{name}:0.25' for name in CORRUPTIONS)}, with a strength up to 1"
            )
        found.append(corruption)
    return tuple(found)
