"""How weights are initialized, and how Adam updates them."""

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from vaectl.networks.layers import AddSkip
from vaectl.networks.network import Network
from vaectl.types import UInt8Array


def init_weights(network: Network, encoder: nn.Sequential, decoder: nn.Sequential, sample: UInt8Array, random: Generator) -> None:
    """Weights from N(0, 1.44 / fan_in), halved in the last layers; biases subtract and restore the mean image of `sample`.

    SiLU passes on less than half of its input, hence more than LeCun's 1 / fan_in (LeCun et al. 1998, section 4.6). Small last
    layers start z near the prior and reconstructions near the mean. A unet begins as the identity, and so does each of its
    residual blocks (Zhang, Dauphin & Ma 2019).
    """
    weighted: list[Any] = []
    for layers, half in ((network.encoder, encoder), (network.decoder, decoder)):
        indices = [index for index, layer in enumerate(layers) if layer.weight_shapes()]
        for index in indices:
            module: Any = half[index]
            is_last, added = index == indices[-1], any(isinstance(layer, AddSkip) for layer in layers[index + 1 : index + 2])
            gain = 0 if added or (is_last and not network.has_latent) else 0.6 if is_last else 1.2
            nn.init.normal_(module.weight, std=gain / sqrt(module.weight[0].numel()), generator=random)
            nn.init.zeros_(module.bias)
            weighted.append(module)
    mean = torch.from_numpy(sample.mean(0, dtype=np.float32)).to(random.device) * (1 / 255)
    weight = weighted[0].weight.data
    weighted[0].bias.data -= weight.reshape(*weight.shape[:2], -1).sum(2) @ mean_values(mean, weight.shape[1])
    if not network.outputs_pixels:
        weighted[-1].bias.data += torch.logit(mean_values(mean, len(weighted[-1].bias)).clamp(1e-3, 1 - 1e-3))


def mean_values(mean: Tensor, count: int) -> Tensor:
    """The mean image (H, W, C) as `count` values: all of it, or its mean color once per unshuffled pixel."""
    color = mean.mean((0, 1))
    return mean.flatten() if count == mean.numel() else color.repeat_interleave(count // len(color))


class Adam:
    """Adam (Kingma & Ba 2015) on all weights of a module as one float32 vector, with a copy in the working precision.

    One vector makes an update a single pass. The fused kernel is called directly: an optimizer of torch.optim computes the same,
    but creating one imports torch._dynamo, which takes longer than training an epoch.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, betas: tuple[float, float]) -> None:
        self.betas = betas
        self.parameters = list(module.parameters())
        self.weights = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        self.working = self.weights.to(dtype)
        self.gradient = torch.zeros_like(self.working)
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.steps = torch.zeros((), device=self.weights.device)
        self.bind(self.working)
        for parameter, gradient in zip(self.parameters, self.split(self.gradient), strict=True):
            parameter.grad = gradient

    def split(self, vector: Tensor) -> Iterator[Tensor]:
        """Views of `vector`, one of the shape of each parameter."""
        parts = vector.split([parameter.numel() for parameter in self.parameters])
        return (part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True))

    def bind(self, vector: Tensor) -> None:
        """Make `vector` the storage of the module's parameters."""
        for parameter, part in zip(self.parameters, self.split(vector), strict=True):
            parameter.data = part

    def step(self, lr: float) -> None:
        """Update the weights by the accumulated gradient, and clear it."""
        self.steps += 1
        torch.ops.aten._fused_adam_(
            [self.weights], [self.gradient.float()], [self.exp_avg], [self.exp_avg_sq], [], [self.steps],
            lr=lr, beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        if self.working is not self.weights:
            self.working.copy_(self.weights)
        self.gradient.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """The weights and the moments of their gradients."""
        return {"weights": self.weights, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}

    def load_state_dict(self, state: dict[str, Tensor], steps: int) -> None:
        """Restore the state after `steps` steps.

        Raises:
            ValueError: a state of another number of weights.
        """
        for name, tensor in self.state_dict().items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{len(state[name])} weights, not {len(tensor)}")
            tensor.copy_(state[name])
        self.working.copy_(self.weights)
        self.steps.fill_(steps)
