"""Runs layer rows in NumPy: no start-up cost, CPU only."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vaectl.layers import (
    Add,
    Clip,
    Conv,
    Crop,
    Flatten,
    Fold,
    Keep,
    Linear,
    Relu,
    Reshape,
    Row,
    Sigmoid,
    Silu,
    Unfold,
    Upsample,
)

Array = NDArray[np.float32]


def sigmoid(x: Array) -> Array:
    """The logistic function, written with tanh so that no logit overflows."""
    result: Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + 1)
    return result


def convolved(row: Conv, weights: Mapping[str, Array], x: Array) -> Array:
    """Every window as a row of one matrix, times the weights as another."""
    edge = row.size // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    windows = sliding_window_view(padded, (row.size, row.size), axis=(1, 2))[:, :: row.stride, :: row.stride]
    # Channels last: they lie side by side in memory.
    matrix = windows.transpose(0, 1, 2, 4, 5, 3).reshape(prod(windows.shape[:3]), -1)
    result: Array = matrix @ weights["weight"].transpose(2, 3, 1, 0).reshape(-1, row.outputs) + weights["bias"]
    return result.reshape(*windows.shape[:3], row.outputs)


def folded(x: Array, factor: int) -> Array:
    """Squares of pixels as channels."""
    count, height, width, channels = x.shape
    parts = x.reshape(count, height // factor, factor, width // factor, factor, channels)
    return parts.swapaxes(2, 3).reshape(count, height // factor, width // factor, -1)


def unfolded(x: Array, factor: int) -> Array:
    """Channels as squares of pixels."""
    count, height, width, channels = x.shape
    parts = x.reshape(count, height, width, factor, factor, channels // factor**2)
    return parts.swapaxes(2, 3).reshape(count, height * factor, width * factor, -1)


def kept(x: Array, pile: list[Array]) -> Array:
    """What came in, of which the pile has hold now."""
    pile.append(x)
    return x


LAYERS: dict[type[Row], Callable[[Any, Mapping[str, Array], Array, list[Array]], Array]] = {
    Linear: lambda row, weights, x, pile: x @ weights["weight"].T + weights["bias"],
    Conv: lambda row, weights, x, pile: convolved(row, weights, x),
    Upsample: lambda row, weights, x, pile: x.repeat(row.factor, axis=1).repeat(row.factor, axis=2),
    Crop: lambda row, weights, x, pile: x[:, : row.height, : row.width],
    Fold: lambda row, weights, x, pile: folded(x, row.factor),
    Unfold: lambda row, weights, x, pile: unfolded(x, row.factor),
    Flatten: lambda row, weights, x, pile: x.reshape(len(x), prod(x.shape[1:])),
    Reshape: lambda row, weights, x, pile: x.reshape(len(x), row.height, row.width, row.channels),
    Silu: lambda row, weights, x, pile: x * sigmoid(x),
    Relu: lambda row, weights, x, pile: np.maximum(x, 0),
    Sigmoid: lambda row, weights, x, pile: sigmoid(x),
    Clip: lambda row, weights, x, pile: x.clip(0, 1),
    Keep: lambda row, weights, x, pile: kept(x, pile),
    Add: lambda row, weights, x, pile: x + pile.pop(),
}


def runner(rows: Sequence[Row], tensors: Mapping[str, Array]) -> Callable[[Array], Array]:
    """A function that takes a batch through the rows; `tensors` are named `<row>.<name>`."""
    own = [{name: tensors[f"{index}.{name}"] for name in row.tensors()} for index, row in enumerate(rows)]

    def run(batch: Array) -> Array:
        pile: list[Array] = []
        for row, weights in zip(rows, own, strict=True):
            batch = LAYERS[type(row)](row, weights, batch, pile)
        return batch

    return run
