"""Runs layers in torch, for training and for GPUs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.models.layers import Layer
from vaectl.models.network import Network, half_weights

OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory")  # in torch's messages


class ChannelsLastConv2d(nn.Conv2d):
    """A convolution of NHWC images, the memory layout of the fastest kernels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Lambda(nn.Module):
    """A function as a module without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Rearrange(torch.autograd.Function):
    """Rearranges values; the backward pass applies the inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, move: Callable[[Tensor], Tensor], inverse: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.inverse = inverse
        return move(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.inverse(gradient), None, None


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """Move blocks of pixels into channels."""
    count, height, width, channels = x.shape
    size = count, height // factor, width // factor
    pixels = x.reshape(*size[:2], factor, size[2], factor, channels)
    blocks = x.new_empty(*size, channels, factor, factor)
    # One copy per position in a block: torch's own function is for NCHW images, and slower.
    for row, column in product(range(factor), repeat=2):
        blocks[..., row, column] = pixels[:, :, row, :, column]
    return blocks.view(*size, -1)


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Move channels into blocks of pixels."""
    count, height, width, _ = x.shape
    blocks = x.reshape(count, height, width, -1, factor, factor)
    pixels = x.new_empty(count, height, factor, width, factor, blocks.shape[3])
    for row, column in product(range(factor), repeat=2):
        pixels[:, :, row, :, column] = blocks[..., row, column]
    return pixels.view(count, height * factor, width * factor, -1)


def rearrange(move: Callable[[Tensor, int], Tensor], inverse: Callable[[Tensor, int], Tensor], factor: int) -> nn.Module:
    """One of the two pixel shuffles as a module; the other is its inverse."""
    return Lambda(lambda x: Rearrange.apply(x, lambda values: move(values, factor), lambda values: inverse(values, factor)))


def push_skip(x: Tensor, skips: list[Tensor]) -> Tensor:
    """Push the input onto the skip stack and return it."""
    skips.append(x)
    return x


MODULES: dict[str, Callable[[Any, list[Tensor]], nn.Module]] = {
    "linear": lambda layer, skips: nn.Linear(layer.in_features, layer.out_features),
    "conv2d": lambda layer, skips: ChannelsLastConv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, padding=layer.kernel_size // 2
    ),
    "crop": lambda layer, skips: Lambda(lambda x: x[:, : layer.height, : layer.width]),
    "pixel_unshuffle": lambda layer, skips: rearrange(pixel_unshuffle, pixel_shuffle, layer.downscale_factor),
    "pixel_shuffle": lambda layer, skips: rearrange(pixel_shuffle, pixel_unshuffle, layer.upscale_factor),
    "flatten": lambda layer, skips: nn.Flatten(),
    "unflatten": lambda layer, skips: nn.Unflatten(1, (layer.height, layer.width, layer.channels)),
    "silu": lambda layer, skips: nn.SiLU(),
    "relu": lambda layer, skips: nn.ReLU(),
    "sigmoid": lambda layer, skips: nn.Sigmoid(),
    "clip": lambda layer, skips: Lambda(lambda x: x.clamp(0, 1)),
    "gate": lambda layer, skips: Lambda(lambda x: torch.mul(*x.chunk(2, dim=3))),
    "push_skip": lambda layer, skips: Lambda(lambda x: push_skip(x, skips)),
    "add_skip": lambda layer, skips: Lambda(lambda x: x + skips.pop()),
}


class Modules(NamedTuple):
    """The two halves of a network as modules; without a latent, there is no encoder."""

    encoder: nn.Sequential | None
    decoder: nn.Sequential


class TorchRandom:
    """Random tensors on the generator's device, in float32: bfloat16 is too coarse for a fraction of the pixels."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.constants: dict[int, tuple[NDArray[Any], Tensor]] = {}

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)

    def integers(self, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.generator.device)

    def poisson(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate, generator=self.generator)

    def on_numpy(self, function: Callable[..., Array], clean: Tensor, *others: Tensor) -> Tensor:
        return torch.from_numpy(function(*(tensor.cpu().numpy() for tensor in (clean, *others)))).to(clean)

    def constant(self, array: NDArray[Any]) -> Tensor:
        # Keep the array, so that its id is not reused.
        if id(array) not in self.constants:
            self.constants[id(array)] = (array, torch.from_numpy(array).to(self.generator.device))
        return self.constants[id(array)][1]

    def binarize(self, images: Tensor) -> Tensor:
        """Sample each pixel as 0 or 1, with its value as the probability of 1."""
        return (self.uniform(tuple(images.shape)) < images).to(images.dtype)


def build_module(layers: Sequence[Layer], weights: Mapping[str, Array] | None = None) -> nn.Sequential:
    """Build the layers as a module on the CPU and load the weights, named `<layer>.<name>`, if given."""
    with torch.random.fork_rng(devices=[]):  # torch initializes weights now, which must not advance the caller's generator
        skips: list[Tensor] = []
        module = nn.Sequential(*(MODULES[layer.name](layer, skips) for layer in layers))
    if weights is not None:
        module.load_state_dict({name: torch.from_numpy(weight.copy()) for name, weight in weights.items()})
    return module


def build_modules(network: Network, weights: Mapping[str, Array]) -> Modules:
    """Build both halves of a network on the CPU, with copies of the weights, named `encoder.<layer>.<name>` and so on."""
    encoder, decoder = (build_module(layers, half_weights(half, weights)) for half, layers in network.halves())
    return Modules(encoder if network.has_latent else None, decoder)


def make_forward(layers: Sequence[Layer], weights: Mapping[str, Array], device: str) -> Callable[[Array], Array]:
    """A function that runs the layers on a batch on `device`; `weights` are named `<layer>.<name>`."""
    module = build_module(layers, weights).to(device)

    @torch.inference_mode()
    def forward(batch: Array) -> Array:
        with translate_memory_errors("use smaller images, or --device cpu"):
            result: Array = module(torch.from_numpy(batch).to(device)).cpu().numpy()
        return result

    return forward


@contextmanager
def translate_memory_errors(advice: str) -> Iterator[None]:
    """Turn out-of-memory errors of torch and NumPy into a VaectlError with this advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU, torch has no error class for it.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            raise VaectlError("memory ran out", advice) from error
        raise
