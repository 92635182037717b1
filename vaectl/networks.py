"""A network as plain data: two lists of layer rows, written by `mlp` and kept as JSON in the checkpoint.

Shapes leave out the batch axis; pictures are (height, width, channels).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

Shape = tuple[int, ...]
T = TypeVar("T")

# No sensible network comes near it; a damaged or hostile checkpoint may, and must fail before memory is asked for.
MOST_VALUES = 2**31


@dataclass(frozen=True)
class Row:
    """One layer. Where a kind of row does not say otherwise, it has no weights and leaves the shape as it is."""

    def tensors(self) -> dict[str, Shape]:
        """The name and shape of each of its weights."""
        return {}

    def output(self, shape: Shape) -> Shape:
        """The shape that comes out when `shape` goes in; ValueError where it does not fit."""
        return shape


@dataclass(frozen=True)
class Linear(Row):
    """y = W x + b on a vector."""

    inputs: int
    outputs: int

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.outputs, self.inputs), "bias": (self.outputs,)}

    def output(self, shape: Shape) -> Shape:
        if shape != (self.inputs,):
            raise ValueError(f"a linear row takes {self.inputs} values, {shape} come in")
        return (self.outputs,)


@dataclass(frozen=True)
class Flatten(Row):
    """A picture becomes a vector, row by row, channels last."""

    def output(self, shape: Shape) -> Shape:
        return (prod(shape),)


@dataclass(frozen=True)
class Reshape(Row):
    """A vector becomes a picture, row by row, channels last."""

    height: int
    width: int
    channels: int

    def output(self, shape: Shape) -> Shape:
        if prod(shape) != self.height * self.width * self.channels:
            raise ValueError(f"{shape} does not fill a picture of {self.height} x {self.width} x {self.channels}")
        return (self.height, self.width, self.channels)


@dataclass(frozen=True)
class Silu(Row):
    """x * sigmoid(x), value by value (Elfwing, Uchibe & Doya 2018)."""


@dataclass(frozen=True)
class Sigmoid(Row):
    """1 / (1 + exp(-x)), value by value: logits become pixels in [0, 1]."""


ROWS: dict[str, type[Row]] = {
    "linear": Linear,
    "flatten": Flatten,
    "reshape": Reshape,
    "silu": Silu,
    "sigmoid": Sigmoid,
}


@dataclass(frozen=True)
class Network:
    """An encoder, pictures to latents, and a decoder, latents to pixels.

    The encoder ends in `latent` values (a point), or in twice as many: mu, then logvar, of q(z|x).
    The decoder's last row is the sigmoid that turns logits into pixels; the training loss takes the logits before it.

    Raises:
        ValueError: the rows do not fit each other, the picture or the latent.
    """

    picture: Shape
    latent: int
    encoder: tuple[Row, ...]
    decoder: tuple[Row, ...]

    def __post_init__(self) -> None:
        if len(self.picture) != 3 or min(self.picture) < 1 or self.picture[2] not in (1, 3) or self.latent < 1:
            raise ValueError(f"a picture of {self.picture} and {self.latent} latent dimensions make no network")
        if sum(map(prod, self.tensors().values())) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} weights")
        encoded = self.walk(self.encoder, self.picture)
        if encoded not in ((self.latent,), (2 * self.latent,)):
            raise ValueError(f"the encoder ends in {encoded}, not in {self.latent} or {2 * self.latent} values")
        if self.walk(self.decoder, (self.latent,)) != self.picture or not isinstance(self.decoder[-1], Sigmoid):
            raise ValueError(f"the decoder does not end in pixels of {self.picture}")

    @staticmethod
    def walk(rows: Sequence[Row], shape: Shape) -> Shape:
        """The shape that comes out when `shape` goes in."""
        for row in rows:
            shape = row.output(shape)
        return shape

    @property
    def variational(self) -> bool:
        """Whether the encoder gives a distribution, mu and logvar, rather than a point."""
        return self.walk(self.encoder, self.picture) == (2 * self.latent,)

    def halves(self) -> Iterator[tuple[str, tuple[Row, ...]]]:
        """Both halves by name, as the weights' names begin."""
        yield from (("encoder", self.encoder), ("decoder", self.decoder))

    def tensors(self) -> dict[str, Shape]:
        """The name and shape of every weight: `encoder.1.weight` belongs to row 1 of the encoder."""
        return {
            f"{half}.{index}.{name}": shape
            for half, rows in self.halves()
            for index, row in enumerate(rows)
            for name, shape in row.tensors().items()
        }


def mlp(picture: Shape, latent: int, hidden: Sequence[int], *, variational: bool) -> Network:
    """Fully connected halves that mirror each other, SiLU between (Kingma & Welling, appendix C, with SiLU for tanh)."""
    pixels = prod(picture)
    return Network(
        picture=picture,
        latent=latent,
        encoder=(Flatten(), *chain((pixels, *hidden, latent * (2 if variational else 1)))),
        decoder=(*chain((latent, *reversed(hidden), pixels)), Reshape(*picture), Sigmoid()),
    )


NETS = {"mlp": mlp}


def chain(widths: Sequence[int]) -> list[Row]:
    """Linear rows from each width to the next, with SiLU between them."""
    rows: list[Row] = []
    for inputs, outputs in pairwise(widths):
        rows += [Linear(inputs, outputs), Silu()]
    return rows[:-1]


def weights_of(half: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """The weights of one half of a network, named `<row>.<name>` without the half."""
    return {name.removeprefix(f"{half}."): tensor for name, tensor in tensors.items() if name.startswith(f"{half}.")}


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as JSON values: `{"layer": "linear", "inputs": 784, "outputs": 500}`."""
    names = {row: name for name, row in ROWS.items()}
    return [{"layer": names[type(row)], **asdict(row)} for row in rows]


def from_json(rows: Any) -> tuple[Row, ...]:
    """The rows that `to_json` wrote.

    Raises:
        ValueError: a layer that is not known, or sizes that are not whole numbers above zero.
    """
    if not isinstance(rows, list):
        raise ValueError("layer rows are a list")
    return tuple(row_from_json(row) for row in rows)


def row_from_json(row: Any) -> Row:
    """One row of `from_json`."""
    if not isinstance(row, dict) or row.get("layer") not in list(ROWS):
        raise ValueError(f"{row!r} is no layer row; the layers are {', '.join(ROWS)}")
    kind = ROWS[row["layer"]]
    sizes = {name: value for name, value in row.items() if name != "layer"}
    names = {field.name for field in fields(kind)}
    if sizes.keys() != names or any(type(value) is not int or not 0 < value < MOST_VALUES for value in sizes.values()):
        raise ValueError(f"{row!r}: a {row['layer']} row has the sizes {sorted(names)}, whole numbers above zero")
    return kind(**sizes)
