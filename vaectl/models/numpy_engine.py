"""Runs layers in NumPy: on the CPU only, but without the seconds that importing torch takes."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vaectl.base.arrays import Array
from vaectl.models.layers import Conv2d, Layer


def sigmoid(x: Array) -> Array:
    """Compute the logistic function through tanh, which does not overflow."""
    result: Array = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + 1)
    return result


def conv2d(layer: Conv2d, weights: Mapping[str, Array], x: Array) -> Array:
    """Convolve as one matrix product, with one row per window (im2col)."""
    padding = layer.kernel_size // 2
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(padded, (layer.kernel_size, layer.kernel_size), axis=(1, 2))
    windows = windows[:, :: layer.stride, :: layer.stride]
    # Channels go last because they are contiguous in memory.
    matrix = windows.transpose(0, 1, 2, 4, 5, 3).reshape(prod(windows.shape[:3]), -1)
    kernel = weights["weight"].transpose(2, 3, 1, 0).reshape(-1, layer.out_channels)
    result: Array = matrix @ kernel + weights["bias"]
    return result.reshape(*windows.shape[:3], layer.out_channels)


def pixel_unshuffle(x: Array, factor: int) -> Array:
    """Move blocks of pixels into channels."""
    count, height, width, channels = x.shape
    blocks = x.reshape(count, height // factor, factor, width // factor, factor, channels)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(count, height // factor, width // factor, channels * factor**2)


def pixel_shuffle(x: Array, factor: int) -> Array:
    """Move channels into blocks of pixels."""
    count, height, width, channels = x.shape
    blocks = x.reshape(count, height, width, channels // factor**2, factor, factor)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(count, height * factor, width * factor, channels // factor**2)


def push_skip(x: Array, skips: list[Array]) -> Array:
    """Push the input onto the skip stack and return it."""
    skips.append(x)
    return x


OPERATIONS: dict[str, Callable[[Any, Mapping[str, Array], Array, list[Array]], Array]] = {
    "linear": lambda layer, weights, x, skips: x @ weights["weight"].T + weights["bias"],
    "conv2d": lambda layer, weights, x, skips: conv2d(layer, weights, x),
    "crop": lambda layer, weights, x, skips: x[:, : layer.height, : layer.width],
    "pixel_unshuffle": lambda layer, weights, x, skips: pixel_unshuffle(x, layer.downscale_factor),
    "pixel_shuffle": lambda layer, weights, x, skips: pixel_shuffle(x, layer.upscale_factor),
    "flatten": lambda layer, weights, x, skips: x.reshape(len(x), prod(x.shape[1:])),
    "unflatten": lambda layer, weights, x, skips: x.reshape(len(x), layer.height, layer.width, layer.channels),
    "silu": lambda layer, weights, x, skips: x * sigmoid(x),
    "relu": lambda layer, weights, x, skips: np.maximum(x, 0),
    "sigmoid": lambda layer, weights, x, skips: sigmoid(x),
    "clip": lambda layer, weights, x, skips: x.clip(0, 1),
    "gate": lambda layer, weights, x, skips: np.multiply(*np.split(x, 2, axis=3)),
    "push_skip": lambda layer, weights, x, skips: push_skip(x, skips),
    "add_skip": lambda layer, weights, x, skips: x + skips.pop(),
}


def make_forward(layers: Sequence[Layer], weights: Mapping[str, Array]) -> Callable[[Array], Array]:
    """A function that runs the layers on a batch; `weights` are named `<layer>.<name>`."""
    layer_weights = [{name: weights[f"{index}.{name}"] for name in layer.weight_shapes()} for index, layer in enumerate(layers)]

    def forward(batch: Array) -> Array:
        skips: list[Array] = []
        for layer, own in zip(layers, layer_weights, strict=True):
            batch = OPERATIONS[layer.name](layer, own, batch, skips)
        return batch

    return forward
