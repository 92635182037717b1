"""A trained model as one safetensors file: the weights, and a card that says everything needed to run them.

The card is the sorted JSON under the metadata key `vaectl`. Nothing is unpickled, and nothing in the file is believed
before it has been checked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from vaectl import layers
from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import files
from vaectl.latents import LatentStatistics
from vaectl.layers import Shape
from vaectl.networks import Network

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]
T = TypeVar("T")

FORMAT = 1
KEY = "vaectl"
LONGEST_HEADER = 1 << 20


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
    # safetensors takes memory as it lies, so that a transposed array would be saved wrong without a word.
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in checkpoint.tensors.items()}
    data = safetensors.numpy.save(tensors, {KEY: json.dumps(to_json(checkpoint.card), sort_keys=True)})
    with files.written(path, durable=True) as stream:
        stream.write(data)


def load(path: str) -> Checkpoint:
    """Read a checkpoint; the file is read once and never mapped.

    Raises:
        VaectlError: no checkpoint, a damaged one, or one of a newer format.
    """
    try:
        with files.opened(path) as reader:
            head = reader.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > LONGEST_HEADER or reader.peek(1) != b"{":
                raise ValueError("it is no safetensors file")
            header = reader.read(length)
            card = card_in(header)
            shapes = card.network.tensors()
            payload = reader.read(4 * sum(map(prod, shapes.values())))
            if reader.peek(1):
                raise ValueError("it is longer than its network")
        tensors = safetensors.numpy.load(head + header + payload)
        check_tensors(tensors, shapes)
    except (ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise VaectlError(f"{path!r} is no checkpoint of vaectl: {error}: give one that vaectl train wrote") from error
    return Checkpoint(card, tensors)


def card_in(header: bytes) -> Card:
    """The card in a safetensors header; ValueError where there is none."""
    metadata = json.loads(header, object_pairs_hook=unique).get("__metadata__", {})
    if KEY not in metadata:
        raise ValueError(f"it has no metadata {KEY!r}")
    values = json.loads(metadata[KEY], object_pairs_hook=unique)
    if values["format"] > FORMAT:
        raise VaectlError(f"a checkpoint of format {values['format']}, newer than this program's {FORMAT}: upgrade vaectl")
    return from_json(values)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys must differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in its JSON")
    return found


def check_tensors(tensors: Tensors, shapes: Mapping[str, Shape]) -> None:
    """Raise ValueError unless the tensors are those of the network, float32 and finite."""
    for name in sorted(shapes.keys() ^ tensors.keys()):
        raise ValueError(f"the tensor {name!r} is {'missing' if name in shapes else 'not of its network'}")
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name] or tensor.dtype != np.float32:
            raise ValueError(f"the tensor {name!r} is {tensor.dtype} {tensor.shape}, its network has float32 {shapes[name]}")
        if not np.isfinite(tensor).all():
            raise ValueError(f"the tensor {name!r} holds NaN or infinity")


def to_json(card: Card) -> dict[str, Any]:
    """The card as JSON values."""
    network = card.network
    halves = {"encoder": layers.to_json(network.encoder), "decoder": layers.to_json(network.decoder)}
    return {**asdict(card), "network": {"picture": network.picture, "latent": network.latent, **halves}, "format": FORMAT}


def from_json(values: Mapping[str, Any]) -> Card:
    """The card that `to_json` wrote; ValueError, KeyError or TypeError where it is anything else."""
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


def typed(value: Any, kind: type[T]) -> T:
    """The value, which must be of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} stands where a {kind.__name__} is due")
    return value


def numbers(values: Any) -> list[float]:
    """A list of finite numbers."""
    if not all(isinstance(value, int | float) and isfinite(value) for value in typed(values, list)):
        raise ValueError("something stands where finite numbers are due")
    return [float(value) for value in values]


def whole_numbers(values: Any) -> list[int]:
    """A list of whole numbers."""
    if not all(type(value) is int for value in typed(values, list)):
        raise ValueError("something stands where whole numbers are due")
    return list(values)
