"""Runs layer rows in torch: for training and for GPUs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaectl.networks import Flatten, Linear, Reshape, Row, Sigmoid, Silu

Array = NDArray[np.float32]

LAYERS: dict[type[Row], Callable[[Any], nn.Module]] = {
    Linear: lambda row: nn.Linear(row.inputs, row.outputs),
    Flatten: lambda row: nn.Flatten(),
    Reshape: lambda row: nn.Unflatten(1, (row.height, row.width, row.channels)),
    Silu: lambda row: nn.SiLU(),
    Sigmoid: lambda row: nn.Sigmoid(),
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
        network = nn.Sequential(*(LAYERS[type(row)](row) for row in rows))
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
