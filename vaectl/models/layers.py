"""The layers of a network as plain data, which every engine runs and a checkpoint stores as JSON.

Shapes omit the batch axis; images are (height, width, channels).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from vaectl.base.shapes import Shape

# No real network comes near these limits. A damaged or hostile checkpoint must fail before any memory is allocated.
MAX_ACTIVATIONS = 2**28  # per layer and image: 1 GiB in float32
MAX_WEIGHTS = 2**31
MAX_LAYERS = 1000


@dataclass(frozen=True)
class Layer:
    """A layer; by default it has no weights and keeps the shape."""

    @property
    def name(self) -> str:
        """Its name in JSON and in the engines."""
        return NAMES[type(self)]

    def weight_shapes(self) -> dict[str, Shape]:
        """The shape of each weight by name."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """The output shape for an input shape.

        Raises:
            ValueError: the layer does not accept this shape.
        """
        return shape


@dataclass(frozen=True)
class Linear(Layer):
    """y = W x + b."""

    in_features: int
    out_features: int

    def weight_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.in_features,):
            raise ValueError(f"a linear layer expects {self.in_features} features, not shape {shape}")
        return (self.out_features,)


@dataclass(frozen=True)
class Conv2d(Layer):
    """2-D convolution with an odd kernel and zero padding of kernel_size // 2."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int

    def weight_shapes(self) -> dict[str, Shape]:
        return {
            "weight": (self.out_channels, self.in_channels, self.kernel_size, self.kernel_size),
            "bias": (self.out_channels,),
        }

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = check_image_shape(shape)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"a conv2d layer needs an odd kernel size, not {self.kernel_size}")
        if channels != self.in_channels:
            raise ValueError(f"a conv2d layer expects {self.in_channels} channels, not shape {shape}")
        return (-(-height // self.stride), -(-width // self.stride), self.out_channels)


@dataclass(frozen=True)
class Crop(Layer):
    """Crops an image to its upper left corner."""

    height: int
    width: int

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = check_image_shape(shape)
        if height < self.height or width < self.width:
            raise ValueError(f"shape {shape} is too small to crop to {self.height} x {self.width}")
        return (self.height, self.width, channels)


@dataclass(frozen=True)
class PixelUnshuffle(Layer):
    """Moves each block of pixels into the channels, ordered by channel, row and column, like torch.nn.PixelUnshuffle."""

    downscale_factor: int

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = check_image_shape(shape)
        factor = self.downscale_factor
        if height % factor or width % factor:
            raise ValueError(f"the height and width of shape {shape} are not multiples of {factor}")
        return (height // factor, width // factor, channels * factor**2)


@dataclass(frozen=True)
class PixelShuffle(Layer):
    """Moves channels into blocks of pixels, like torch.nn.PixelShuffle: the inverse of `PixelUnshuffle`."""

    upscale_factor: int

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = check_image_shape(shape)
        factor = self.upscale_factor
        if channels % factor**2:
            raise ValueError(f"the channels of shape {shape} are not a multiple of {factor**2}")
        return (height * factor, width * factor, channels // factor**2)


@dataclass(frozen=True)
class Flatten(Layer):
    """Flattens an image to a vector in row-major order, channels last."""

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)


@dataclass(frozen=True)
class Unflatten(Layer):
    """Reshapes a vector to an image: the inverse of `Flatten`."""

    height: int
    width: int
    channels: int

    def output_shape(self, shape: Shape) -> Shape:
        image_shape = (self.height, self.width, self.channels)
        if prod(shape) != prod(image_shape):
            raise ValueError(f"shape {shape} does not unflatten to {image_shape}")
        return image_shape


@dataclass(frozen=True)
class SiLU(Layer):
    """x * sigmoid(x) (Elfwing, Uchibe & Doya 2018)."""


@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0)."""


@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x)): turns logits into pixels in [0, 1]."""


@dataclass(frozen=True)
class Clip(Layer):
    """Clips values to [0, 1]."""


@dataclass(frozen=True)
class Gate(Layer):
    """Multiplies the first half of the channels by the second (SimpleGate: Chen et al. 2022)."""

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = check_image_shape(shape)
        if channels % 2:
            raise ValueError(f"the number of channels of shape {shape} is odd")
        return (height, width, channels // 2)


@dataclass(frozen=True)
class PushSkip(Layer):
    """Pushes its input onto the skip stack and returns it."""


@dataclass(frozen=True)
class AddSkip(Layer):
    """Pops the skip stack and adds the result to its input."""


LAYERS: dict[str, type[Layer]] = {
    "linear": Linear,
    "conv2d": Conv2d,
    "crop": Crop,
    "pixel_unshuffle": PixelUnshuffle,
    "pixel_shuffle": PixelShuffle,
    "flatten": Flatten,
    "unflatten": Unflatten,
    "silu": SiLU,
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "clip": Clip,
    "gate": Gate,
    "push_skip": PushSkip,
    "add_skip": AddSkip,
}
NAMES = {kind: name for name, kind in LAYERS.items()}


def check_image_shape(shape: Shape) -> tuple[int, int, int]:
    """The shape, or raise ValueError if it is not (height, width, channels)."""
    if len(shape) != 3:
        raise ValueError(f"expected an image, not shape {shape}")
    height, width, channels = shape
    return height, width, channels


def layer_shapes(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """The input shape, followed by the output shape of each layer.

    Raises:
        ValueError: the layers do not fit together, or a layer has more than MAX_ACTIVATIONS outputs.
    """
    shapes = [shape]
    skips: list[Shape] = []
    for layer in layers:
        shape = layer.output_shape(shape)
        if isinstance(layer, PushSkip):
            skips.append(shape)
        elif isinstance(layer, AddSkip) and (not skips or skips.pop() != shape):
            raise ValueError(f"no skip connection of shape {shape} to add")
        if prod(shape) > MAX_ACTIVATIONS:
            raise ValueError(f"shape {shape} has more than {MAX_ACTIVATIONS} activations")
        shapes.append(shape)
    if skips:
        raise ValueError("a skip connection is never added")
    return shapes


def count_macs(layers: Sequence[Layer], shape: Shape) -> int:
    """The number of multiply-accumulate operations for one input of this shape."""
    outputs = layer_shapes(layers, shape)[1:]
    return sum(
        prod(output[:-1]) * prod(layer.weight_shapes().get("weight", (0,))) for layer, output in zip(layers, outputs, strict=True)
    )


def layers_to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Layers as JSON values: `{"layer": "linear", "in_features": 784, "out_features": 500}`."""
    return [{"layer": layer.name, **asdict(layer)} for layer in layers]


def layers_from_json(values: Any) -> tuple[Layer, ...]:
    """The layers that `layers_to_json` wrote.

    Raises:
        ValueError: not a list of at most MAX_LAYERS layers, an unknown layer, or a field that is not a positive integer.
    """
    if not isinstance(values, list) or len(values) > MAX_LAYERS:
        raise ValueError(f"layers must be a list of at most {MAX_LAYERS}")
    return tuple(layer_from_json(value) for value in values)


def layer_from_json(value: Any) -> Layer:
    """One layer of `layers_from_json`."""
    if not isinstance(value, dict) or value.get("layer") not in list(LAYERS):  # a list, because JSON values may not hash
        raise ValueError(f"unknown layer {value!r}: expected one of {', '.join(LAYERS)}")
    kind = LAYERS[value["layer"]]
    sizes = {name: size for name, size in value.items() if name != "layer"}
    names = [field.name for field in fields(kind)]
    if sizes.keys() != set(names) or any(type(size) is not int or not 0 < size < MAX_ACTIVATIONS for size in sizes.values()):
        raise ValueError(f"invalid layer {value!r}: expected positive integers for {', '.join(names) or 'no fields'}")
    return kind(**sizes)
