"""Runs layer rows in torch: for training and for GPUs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vaectl.networks import Flatten, Linear, Reshape, Row, Sigmoid, Silu

Array = NDArray[np.float32]

LAYERS: dict[type[Row], Callable[[Any], nn.Module]] = {
    Linear: lambda row: nn.Linear(row.inputs, row.outputs),
    Flatten: lambda row: nn.Flatten(),
    Reshape: lambda row: nn.Unflatten(1, (row.height, row.width, row.channels)),
    Silu: lambda row: nn.SiLU(),
    Sigmoid: lambda row: nn.Sigmoid(),
}


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
