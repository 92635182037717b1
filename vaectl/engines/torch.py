"""Runs layer rows in torch: for training and for GPUs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

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


class Convolution(nn.Conv2d):
    """A convolution of pictures with channels last, which is how the fastest kernels have them too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Function(nn.Module):
    """A layer without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def upsampled(x: Tensor, factor: int) -> Tensor:
    """Pixels as squares of pixels."""
    return functional.interpolate(x.permute(0, 3, 1, 2), scale_factor=factor).permute(0, 2, 3, 1)


def folded(x: Tensor, factor: int) -> Tensor:
    """Squares of pixels as channels."""
    count, height, width, channels = x.shape
    parts = x.reshape(count, height // factor, factor, width // factor, factor, channels)
    return parts.transpose(2, 3).reshape(count, height // factor, width // factor, -1)


def unfolded(x: Tensor, factor: int) -> Tensor:
    """Channels as squares of pixels."""
    count, height, width, channels = x.shape
    parts = x.reshape(count, height, width, factor, factor, channels // factor**2)
    return parts.transpose(2, 3).reshape(count, height * factor, width * factor, -1)


def kept(x: Tensor, pile: list[Tensor]) -> Tensor:
    """What came in, of which the pile has hold now."""
    pile.append(x)
    return x


LAYERS: dict[type[Row], Callable[[Any, list[Tensor]], nn.Module]] = {
    Linear: lambda row, pile: nn.Linear(row.inputs, row.outputs),
    Conv: lambda row, pile: Convolution(row.inputs, row.outputs, row.size, row.stride, row.size // 2),
    Upsample: lambda row, pile: Function(lambda x: upsampled(x, row.factor)),
    Crop: lambda row, pile: Function(lambda x: x[:, : row.height, : row.width]),
    Fold: lambda row, pile: Function(lambda x: folded(x, row.factor)),
    Unfold: lambda row, pile: Function(lambda x: unfolded(x, row.factor)),
    Flatten: lambda row, pile: nn.Flatten(),
    Reshape: lambda row, pile: nn.Unflatten(1, (row.height, row.width, row.channels)),
    Silu: lambda row, pile: nn.SiLU(),
    Relu: lambda row, pile: nn.ReLU(),
    Sigmoid: lambda row, pile: nn.Sigmoid(),
    Clip: lambda row, pile: Function(lambda x: x.clamp(0, 1)),
    Keep: lambda row, pile: Function(lambda x: kept(x, pile)),
    Add: lambda row, pile: Function(lambda x: x + pile.pop()),
}


class TorchDraw:
    """Random numbers as tensors on the generator's device (`corruption.Draw`); normal ones in the precision of the layers."""

    def __init__(self, random: torch.Generator, dtype: torch.dtype) -> None:
        self.random = random
        self.dtype = dtype
        self.constants: dict[int, tuple[NDArray[Any], Tensor]] = {}

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.random, device=self.random.device, dtype=self.dtype)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        # In float32: bfloat16 has too few numbers between 0 and 1 for a share of pixels.
        return torch.rand(shape, generator=self.random, device=self.random.device)

    def integers(self, below: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(below, shape, generator=self.random, device=self.random.device)

    def constant(self, array: NDArray[Any]) -> Tensor:
        # The array is kept with its tensor, so that its id stays its own.
        if id(array) not in self.constants:
            self.constants[id(array)] = (array, torch.from_numpy(array).to(self.random.device))
        return self.constants[id(array)][1]

    def binarized(self, pictures: Tensor) -> Tensor:
        """Each pixel drawn as white with its grey value as probability."""
        return (self.uniform(tuple(pictures.shape)) < pictures).to(pictures.dtype)


def module(rows: Sequence[Row], tensors: Mapping[str, Array] | None = None) -> nn.Sequential:
    """The rows as a module on the CPU, with weights named `<row>.<name>` where they are given."""
    with torch.random.fork_rng(devices=[]):  # torch draws weights at once; the caller's random numbers are left alone
        pile: list[Tensor] = []
        network = nn.Sequential(*(LAYERS[type(row)](row, pile) for row in rows))
    if tensors is not None:
        network.load_state_dict({name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()})
    return network


def runner(rows: Sequence[Row], tensors: Mapping[str, Array], device: str) -> Callable[[Array], Array]:
    """A function that takes a batch through the rows on `device`; `tensors` are named `<row>.<name>`."""
    network = module(rows, tensors).to(device)

    @torch.inference_mode()
    def run(batch: Array) -> Array:
        result: Array = network(torch.from_numpy(batch).to(device)).cpu().numpy()
        return result

    return run
