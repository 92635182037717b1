"""A trained model as one safetensors file: the weights, and a card that says everything needed to run them.

The card is the sorted JSON under the metadata key `vaectl`. Nothing is unpickled, and nothing in the file is believed
before it has been checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl import layers, networks
from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import tensors
from vaectl.io.tensors import numbers, typed, whole_numbers
from vaectl.latents import LatentStatistics
from vaectl.networks import Network

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]

FORMAT = 1
KEY = "vaectl"


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of its model.

    Raises:
        ValueError: latent statistics of another width, or a fit that is not known.
    """

    model: str
    network: Network
    fit: str
    likelihood: str
    sigma: float | None
    beta: float
    corrupt: Sequence[str]
    latent: LatentStatistics
    training: Mapping[str, Any]
    data: Mapping[str, Any]
    figures: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if any(len(spread) != self.network.latent for spread in asdict(self.latent).values()):
            raise ValueError(f"its latent statistics are not of {self.network.latent} dimensions")
        Frame(self.network.picture, self.fit)

    @property
    def frame(self) -> Frame:
        """What pictures are brought to before they are encoded."""
        return Frame(self.network.picture, self.fit)


@dataclass(frozen=True)
class Checkpoint:
    """A card and the weights it describes, named `encoder.<row>.weight` and so on."""

    card: Card
    tensors: Tensors


def save(path: str, checkpoint: Checkpoint) -> None:
    """Write the checkpoint to `path`, whole or not at all.

    Raises:
        VaectlError: the file cannot be written.
    """
    floats = {name: np.asarray(tensor, np.float32) for name, tensor in checkpoint.tensors.items()}
    tensors.write(path, floats, KEY, to_json(checkpoint.card))


def load(path: str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        VaectlError: no checkpoint, a damaged one, or one of a newer format.
    """
    try:
        card, found = tensors.read(path, KEY, from_json, due)
    except tensors.DAMAGE as error:
        raise VaectlError(f"{path!r} is no checkpoint of vaectl: {error}: give one that vaectl train wrote") from error
    return Checkpoint(card, found)


def due(card: Card) -> tensors.Due:
    """The weights of a card's network."""
    return {name: (shape, np.float32) for name, shape in card.network.tensors().items()}


def to_json(card: Card) -> dict[str, Any]:
    """The card as JSON values."""
    return {**asdict(card), "network": networks.to_json(card.network), "format": FORMAT}


def from_json(values: Mapping[str, Any]) -> Card:
    """The card that `to_json` wrote; ValueError, KeyError or TypeError where it is anything else.

    Raises:
        VaectlError: a newer format.
    """
    if values["format"] > FORMAT:
        raise VaectlError(f"a checkpoint of format {values['format']}, newer than this program's {FORMAT}: upgrade vaectl")
    network = values["network"]
    return Card(
        model=typed(values["model"], str),
        network=Network(
            picture=tuple(whole_numbers(network["picture"])),
            latent=whole_numbers([network["latent"]])[0],
            encoder=layers.from_json(network["encoder"]),
            decoder=layers.from_json(network["decoder"]),
        ),
        fit=typed(values.get("fit", "crop"), str),  # the first checkpoints knew no other
        likelihood=typed(values["likelihood"], str),
        sigma=None if values["sigma"] is None else numbers([values["sigma"]])[0],
        beta=numbers([values["beta"]])[0],
        corrupt=[typed(spec, str) for spec in typed(values["corrupt"], list)],
        latent=LatentStatistics(**{name: numbers(spread) for name, spread in typed(values["latent"], dict).items()}),
        training=typed(values["training"], dict),
        data=typed(values["data"], dict),
        figures=typed(values["figures"], dict),
        epochs=[typed(epoch, dict) for epoch in typed(values["epochs"], list)],
        versions=typed(values["versions"], dict),
    )
