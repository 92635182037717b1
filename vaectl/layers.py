"""The vocabulary of layers: rows of plain data, which the engines run and a checkpoint keeps as JSON.

Shapes leave out the batch axis; pictures are (height, width, channels).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

Shape = tuple[int, ...]

# No sensible network comes near these; a damaged or hostile checkpoint may, and must fail before memory is asked for.
MOST_VALUES = 2**28  # between two rows, a gigabyte
MOST_WEIGHTS = 2**31
MOST_ROWS = 1000


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
class Conv(Row):
    """Weighted sums over a window of `size` x `size` pixels around every `stride`-th one; beyond the edge all is 0."""

    inputs: int
    outputs: int
    size: int
    stride: int

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.outputs, self.inputs, self.size, self.size), "bias": (self.outputs,)}

    def output(self, shape: Shape) -> Shape:
        height, width, channels = picture(shape)
        if channels != self.inputs or self.size % 2 == 0:
            raise ValueError(f"a conv row of odd size takes {self.inputs} channels, {shape} comes in")
        return (-(-height // self.stride), -(-width // self.stride), self.outputs)


@dataclass(frozen=True)
class Upsample(Row):
    """Each pixel becomes a square of `factor` x `factor`."""

    factor: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = picture(shape)
        return (height * self.factor, width * self.factor, channels)


@dataclass(frozen=True)
class Crop(Row):
    """The upper left part of a picture."""

    height: int
    width: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = picture(shape)
        if height < self.height or width < self.width:
            raise ValueError(f"{shape} holds no picture of {self.height} x {self.width}")
        return (self.height, self.width, channels)


@dataclass(frozen=True)
class Fold(Row):
    """Each square of `factor` x `factor` pixels becomes one pixel with all their channels, row by row."""

    factor: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = picture(shape)
        if height % self.factor or width % self.factor:
            raise ValueError(f"{shape} does not fold by {self.factor}")
        return (height // self.factor, width // self.factor, channels * self.factor**2)


@dataclass(frozen=True)
class Unfold(Row):
    """Each pixel becomes a square of `factor` x `factor` pixels, among which its channels are dealt out: `Fold` undone."""

    factor: int

    def output(self, shape: Shape) -> Shape:
        height, width, channels = picture(shape)
        if channels % self.factor**2:
            raise ValueError(f"{shape} does not unfold by {self.factor}")
        return (height * self.factor, width * self.factor, channels // self.factor**2)


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
class Relu(Row):
    """max(x, 0), value by value."""


@dataclass(frozen=True)
class Sigmoid(Row):
    """1 / (1 + exp(-x)), value by value: logits become pixels in [0, 1]."""


@dataclass(frozen=True)
class Clip(Row):
    """Values beyond [0, 1] become 0 or 1."""


@dataclass(frozen=True)
class Keep(Row):
    """Lays what comes in on a pile, and passes it on."""


@dataclass(frozen=True)
class Add(Row):
    """Takes the uppermost off the pile and adds it."""


ROWS: dict[str, type[Row]] = {
    "linear": Linear,
    "conv": Conv,
    "upsample": Upsample,
    "crop": Crop,
    "fold": Fold,
    "unfold": Unfold,
    "flatten": Flatten,
    "reshape": Reshape,
    "silu": Silu,
    "relu": Relu,
    "sigmoid": Sigmoid,
    "clip": Clip,
    "keep": Keep,
    "add": Add,
}


def picture(shape: Shape) -> tuple[int, int, int]:
    """The shape, which must be a picture's; ValueError where it is not."""
    if len(shape) != 3:
        raise ValueError(f"a picture is expected, {shape} comes in")
    height, width, channels = shape
    return height, width, channels


def walk(rows: Sequence[Row], shape: Shape) -> list[Shape]:
    """The shape before the first row and after each; ValueError where they do not fit each other."""
    shapes = [shape]
    pile: list[Shape] = []
    for row in rows:
        shape = row.output(shape)
        if isinstance(row, Keep):
            pile.append(shape)
        elif isinstance(row, Add) and (not pile or pile.pop() != shape):
            raise ValueError(f"nothing of {shape} was kept to be added")
        if prod(shape) > MOST_VALUES:
            raise ValueError(f"{shape} is larger than {MOST_VALUES} values")
        shapes.append(shape)
    if pile:
        raise ValueError("something is kept and never used")
    return shapes


def multiplications(rows: Sequence[Row], shape: Shape) -> int:
    """How many numbers are multiplied when one item of `shape` goes through the rows."""
    outputs = walk(rows, shape)[1:]
    uses = (prod(output[:-1]) for output in outputs)
    return sum(use * prod(row.tensors().get("weight", (0,))) for row, use in zip(rows, uses, strict=True))


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as JSON values: `{"layer": "linear", "inputs": 784, "outputs": 500}`."""
    names = {row: name for name, row in ROWS.items()}
    return [{"layer": names[type(row)], **asdict(row)} for row in rows]


def from_json(rows: Any) -> tuple[Row, ...]:
    """The rows that `to_json` wrote.

    Raises:
        ValueError: a layer that is not known, or sizes that are not whole numbers above zero.
    """
    if not isinstance(rows, list) or len(rows) > MOST_ROWS:
        raise ValueError(f"layer rows are a list, of at most {MOST_ROWS}")
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
