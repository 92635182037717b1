"""Weights while they are learned: where they begin, and how Adam moves them."""

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from vaectl.batches import PIXEL, Bytes
from vaectl.layers import Add
from vaectl.networks import Network


def initialise(network: Network, encoder: nn.Sequential, decoder: nn.Sequential, sample: Bytes, random: Generator) -> None:
    """Weights from N(0, 1.44 / inputs), halved where a half ends; the mean picture is taken off and put back by the biases.

    SiLU passes on less than half of what comes in, hence more than LeCun's 1 / inputs (LeCun et al. 1998, section 4.6). The
    ends start small, so that z starts near the prior and the pictures near their mean. So does what is added to what was kept.
    """
    layers: list[Any] = []
    for rows, half in ((network.encoder, encoder), (network.decoder, decoder)):
        weighted = [index for index, row in enumerate(rows) if row.tensors()]
        for index in weighted:
            layer: Any = half[index]
            small = index == weighted[-1] or isinstance(rows[index + 1], Add)
            spread = (0.6 if small else 1.2) / sqrt(layer.weight[0].numel())
            nn.init.normal_(layer.weight, std=spread, generator=random)
            nn.init.zeros_(layer.bias)
            layers.append(layer)
    mean = torch.from_numpy(sample.mean(0, dtype=np.float32)).to(random.device) * PIXEL
    weight = layers[0].weight.data
    layers[0].bias.data -= weight.reshape(*weight.shape[:2], -1).sum(2) @ values_of(mean, weight.shape[1])
    if not network.linear:
        layers[-1].bias.data += torch.logit(values_of(mean, len(layers[-1].bias)).clamp(1e-3, 1 - 1e-3))


def values_of(mean: Tensor, count: int) -> Tensor:
    """The mean picture, (H, W, C), as `count` values: all there are, or its mean colour over and over."""
    colour = mean.mean((0, 1))
    return mean.flatten() if count == mean.numel() else colour.repeat(count // len(colour))


class Weights:
    """All weights of a module as one vector in float32, which Adam moves, and a copy in the working precision, which computes.

    One vector makes Adam one pass (Kingma & Ba 2015). Its kernel is called directly: an optimizer of torch.optim computes the
    same, but takes longer to import than an epoch to train.
    """

    def __init__(self, owner: nn.Module, dtype: torch.dtype, adam: tuple[float, float]) -> None:
        self.adam = adam
        self.parameters = list(owner.parameters())
        self.master = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        self.working = self.master.to(dtype)
        self.gradient = torch.zeros_like(self.working)
        self.first, self.second = torch.zeros_like(self.master), torch.zeros_like(self.master)
        self.count = torch.zeros((), device=self.master.device)
        self.place(self.working)
        for parameter, gradient in zip(self.parameters, self.split(self.gradient), strict=True):
            parameter.grad = gradient

    def split(self, vector: Tensor) -> Iterator[Tensor]:
        """Views of `vector`, one of the shape of each parameter."""
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        return (part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True))

    def place(self, vector: Tensor) -> None:
        """Make `vector` the memory of the module's parameters."""
        for parameter, part in zip(self.parameters, self.split(vector), strict=True):
            parameter.data = part

    def step(self, lr: float) -> None:
        """Move by the gradient that has gathered, and clear it."""
        self.count += 1
        torch.ops.aten._fused_adam_(
            [self.master], [self.gradient.float()], [self.first], [self.second], [], [self.count],
            lr=lr, beta1=self.adam[0], beta2=self.adam[1], weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        if self.working is not self.master:
            self.working.copy_(self.master)
        self.gradient.zero_()

    def go_on(self, master: Tensor, first: Tensor, second: Tensor, steps: int) -> None:
        """Stand where other weights stood after so many steps."""
        for own, other in ((self.master, master), (self.first, first), (self.second, second)):
            own.copy_(other)
        self.working.copy_(self.master)
        self.count.fill_(steps)

    def restore(self) -> None:
        """Leave the float32 weights in the module."""
        self.place(self.master)
