"""Runs layer rows in NumPy: no start-up cost, CPU only."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaectl.networks import Flatten, Linear, Reshape, Row, Sigmoid, Silu

Array = NDArray[np.float32]


def sigmoid(x: Array) -> Array:
    """The logistic function, written with tanh so that no logit overflows."""
    result: Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + 1)
    return result


LAYERS: dict[type[Row], Callable[[Any, Mapping[str, Array], Array], Array]] = {
    Linear: lambda row, tensors, x: x @ tensors["weight"].T + tensors["bias"],
    Flatten: lambda row, tensors, x: x.reshape(len(x), prod(x.shape[1:])),
    Reshape: lambda row, tensors, x: x.reshape(len(x), row.height, row.width, row.channels),
    Silu: lambda row, tensors, x: x * sigmoid(x),
    Sigmoid: lambda row, tensors, x: sigmoid(x),
}


def runner(rows: Sequence[Row], tensors: Mapping[str, Array]) -> Callable[[Array], Array]:
    """A function that takes a batch through the rows; `tensors` are named `<row>.<name>`."""
    own = [{name: tensors[f"{index}.{name}"] for name in row.tensors()} for index, row in enumerate(rows)]

    def run(batch: Array) -> Array:
        for row, weights in zip(rows, own, strict=True):
            batch = LAYERS[type(row)](row, weights, batch)
        return batch

    return run
