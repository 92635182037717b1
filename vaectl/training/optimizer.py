"""How weights are initialized, and how Adam and Muon update them."""

from collections.abc import Iterator
from itertools import accumulate
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from vaectl.base.arrays import UInt8Array
from vaectl.models.layers import AddSkip, PixelShuffle
from vaectl.models.network import Network
from vaectl.training.distributed import ALONE, World


def init_weights(network: Network, encoder: nn.Sequential, decoder: nn.Sequential, sample: UInt8Array, random: Generator) -> None:
    """Weights from N(0, 1.44 / fan_in), halved in the last layers; biases subtract and restore the mean image of `sample`.

    SiLU passes on less than half of its input, hence more than LeCun's 1 / fan_in (LeCun et al. 1998, section 4.6). Small last
    layers start z near the prior and reconstructions near the mean. A unet has half the gain, and begins as the identity, as
    each of its residual blocks does (Zhang, Dauphin & Ma 2019). A decoder that shuffles pixels begins with blocks of equal ones,
    or checkerboards would remain (Aitken et al. 2017).
    """
    hidden_gain = 1.2 if network.has_latent else 0.6
    weighted: list[Any] = []
    for layers, half in ((network.encoder, encoder), (network.decoder, decoder)):
        indices = [index for index, layer in enumerate(layers) if layer.weight_shapes()]
        for index in indices:
            module: Any = half[index]
            is_last, added = index == indices[-1], any(isinstance(layer, AddSkip) for layer in layers[index + 1 : index + 2])
            gain = 0 if added or (is_last and not network.has_latent) else 0.6 if is_last else hidden_gain
            nn.init.normal_(module.weight, std=gain / sqrt(module.weight[0].numel()), generator=random)
            nn.init.zeros_(module.bias)
            if network.has_latent and isinstance(shuffle := (*layers, None)[index + 1], PixelShuffle):
                subpixels = shuffle.upscale_factor**2
                module.weight.data = module.weight.data[::subpixels].repeat_interleave(subpixels, 0)
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


MUON_MOMENTUM = 0.95
MUON_RMS = 0.2  # of an update at a learning rate of 1, as Adam's are


class Optimizer:
    """Adam (Kingma & Ba 2015) on the weights of a module as one float32 vector, with a copy in the working precision.

    Muon (Jordan et al. 2024) updates the inner convolutions: a unet needs 40 % of the steps to denoise as well.

    One vector makes an update a single pass. The fused kernel is called directly: an optimizer of torch.optim computes the same,
    but creating one imports torch._dynamo, which takes longer than training an epoch.

    Several processes add up their gradients by one all_reduce, whose last value counts those that want to stop; each updates all
    weights.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, betas: tuple[float, float], world: World = ALONE) -> None:
        self.betas, self.world = betas, world
        named = dict(module.named_parameters())
        self.order = list(named)
        kernels = [name for name, parameter in named.items() if parameter.ndim == 4][1:-1]
        self.names = kernels + [name for name in named if name not in kernels]
        self.parameters = [named[name] for name in self.names]
        weights = torch.cat([parameter.detach().flatten() for parameter in self.parameters])
        world.broadcast(weights)
        count, device = len(weights), weights.device
        self.weights, self.exp_avg, self.exp_avg_sq = (torch.zeros(count, device=device) for _ in range(3))
        self.working = self.weights if dtype == torch.float32 else torch.zeros(count, dtype=dtype, device=device)
        self.reduced = torch.zeros(count + 1, dtype=dtype, device=device)
        self.gradient, self.stop_requests = self.reduced[:-1], self.reduced[-1:]
        self.steps = torch.zeros((), device=device)
        ends = [0, *accumulate(named[name].numel() for name in kernels)]
        self.kernels = [(slice(*ends[i : i + 2]), named[name].shape) for i, name in enumerate(kernels)]
        self.rest = slice(ends[-1], count)  # what Adam updates
        self.set_weights(weights)
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

    def set_weights(self, weights: Tensor) -> None:
        """Replace the weights; all processes have to give the same ones."""
        self.weights.copy_(weights)
        self.working.copy_(weights)

    def step(self, lr: float) -> None:
        """Update the weights by the gradients of all processes, and clear these.

        Raises:
            LostProcessError: another process ended.
        """
        self.world.all_reduce(self.reduced)
        self.steps += 1
        for part, shape in self.kernels:
            kernel, momentum, gradient = self.weights[part], self.exp_avg[part], self.gradient[part].float()
            momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
            direction = orthogonalize(torch.lerp(gradient, momentum, MUON_MOMENTUM).view(shape))
            kernel.add_(direction.flatten(), alpha=-lr * MUON_RMS)
        gradient = self.gradient[self.rest].float()
        torch.ops.aten._fused_adam_(
            [self.weights[self.rest]], [gradient], [self.exp_avg[self.rest]], [self.exp_avg_sq[self.rest]], [], [self.steps],
            lr=lr, beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        if self.working is not self.weights:
            self.working.copy_(self.weights)
        self.gradient.zero_()

    def named_weights(self) -> dict[str, Tensor]:
        """The weights by name, in the order of the module."""
        found = dict(zip(self.names, self.split(self.weights), strict=True))
        return {name: found[name] for name in self.order}

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
        self.set_weights(self.weights)
        self.steps.fill_(steps)


def orthogonalize(gradient: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a kernel's gradient, its rows one per output channel, scaled to a root mean square of 1.

    By five Newton-Schulz iterations (Jordan et al. 2024); a fixed root mean square makes Adam's learning rates fit (Liu et al.
    2025, section 2.2). Each iteration multiplies x by a polynomial of x x^T, and such polynomials commute: so all of them are
    multiplied before x is, at half the cost.
    """
    matrix = gradient.flatten(1)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    square = x @ x.T
    product = torch.eye(len(x), device=x.device)
    for _ in range(5):
        factor = torch.addmm(square, square, square, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    nearest: Tensor = x.T if tall else x
    return nearest.reshape(gradient.shape) * sqrt(max(matrix.shape))
