"""An autoencoder as plain data: the layers of an encoder and a decoder, built by `build_mlp`, `build_conv` or `build_unet`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, Literal, TypeVar

from vaectl.base.shapes import Shape
from vaectl.models.layers import (
    MAX_WEIGHTS,
    AddSkip,
    Clip,
    Conv2d,
    Crop,
    Flatten,
    Gate,
    Layer,
    Linear,
    PixelShuffle,
    PixelUnshuffle,
    PushSkip,
    ReLU,
    Sigmoid,
    SiLU,
    Unflatten,
    layer_shapes,
    layers_from_json,
    layers_to_json,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Network:
    """An encoder from images to latents and a decoder from latents to pixels.

    The encoder outputs `latent_dim` values (a point), or twice as many: the mean, then the log-variance of q(z|x). If
    `latent_dim` is 0, there is no encoder and the decoder maps images to images.
    The decoder ends in a sigmoid or a clip, which turns its outputs into pixels in [0, 1]. Training skips this last layer.

    Raises:
        ValueError: the layers do not fit together, or do not match the image shape or the latent.
    """

    image_shape: Shape
    latent_dim: int
    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if len(self.image_shape) != 3 or min(self.image_shape) < 1 or self.image_shape[2] not in (1, 3):
            raise ValueError(f"the image shape {self.image_shape} is not (height, width, 1 or 3)")
        if self.latent_dim < 0:
            raise ValueError(f"the latent dimension {self.latent_dim} is negative")
        if sum(map(prod, self.weight_shapes().values())) > MAX_WEIGHTS:
            raise ValueError(f"the network has more than {MAX_WEIGHTS} weights")
        if self.encoder and not self.has_latent:
            raise ValueError("a network without a latent has an encoder")
        encoded = layer_shapes(self.encoder, self.image_shape)[-1]
        if self.has_latent and encoded not in ((self.latent_dim,), (2 * self.latent_dim,)):
            raise ValueError(f"the encoder outputs shape {encoded}, not {self.latent_dim} or {2 * self.latent_dim} values")
        decoded = layer_shapes(self.decoder, (self.latent_dim,) if self.has_latent else self.image_shape)[-1]
        if decoded != self.image_shape or not self.decoder or not isinstance(self.decoder[-1], Sigmoid | Clip):
            raise ValueError(f"the decoder does not output pixels of shape {self.image_shape}")

    @property
    def has_latent(self) -> bool:
        """Whether the network encodes images to latents, rather than mapping images to images."""
        return self.latent_dim > 0

    @cached_property
    def variational(self) -> bool:
        """Whether the encoder outputs a distribution, the mean and log-variance of q(z|x), rather than a point."""
        return self.has_latent and layer_shapes(self.encoder, self.image_shape)[-1] == (2 * self.latent_dim,)

    @property
    def max_fan_in(self) -> int:
        """The largest number of inputs of a linear layer; 1 if there is none."""
        return max((layer.in_features for _, layers in self.halves() for layer in layers if isinstance(layer, Linear)), default=1)

    @property
    def outputs_pixels(self) -> bool:
        """Whether the decoder computes pixels, clipped by its last layer, rather than logits."""
        return isinstance(self.decoder[-1], Clip)

    def halves(self) -> Iterator[tuple[str, tuple[Layer, ...]]]:
        """The encoder and the decoder, each with the prefix of its weight names."""
        yield "encoder", self.encoder
        yield "decoder", self.decoder

    def weight_shapes(self) -> dict[str, Shape]:
        """The shape of each weight by name: `encoder.1.weight` belongs to layer 1 of the encoder."""
        return {
            f"{half}.{index}.{name}": shape
            for half, layers in self.halves()
            for index, layer in enumerate(layers)
            for name, shape in layer.weight_shapes().items()
        }


def build_mlp(image_shape: Shape, latent_dim: int, hidden: Sequence[int], *, variational: bool) -> Network:
    """Build a fully connected encoder and its mirror image (Kingma & Welling 2014, appendix C, with SiLU for tanh)."""
    features = prod(image_shape)
    return Network(
        image_shape,
        latent_dim,
        encoder=(Flatten(), *linear_layers((features, *hidden, latent_dim * (2 if variational else 1)))),
        decoder=(*linear_layers((latent_dim, *reversed(hidden), features)), Unflatten(*image_shape), Sigmoid()),
    )


def linear_layers(widths: Sequence[int]) -> list[Layer]:
    """Linear layers from each width to the next, with SiLU between them."""
    layers: list[Layer] = []
    for in_features, out_features in pairwise(widths):
        layers += [Linear(in_features, out_features), SiLU()]
    return layers[:-1]


def build_conv(
    image_shape: Shape, latent_dim: int, hidden: Sequence[int], linear: Sequence[int] = (), *, variational: bool
) -> Network:
    """Build a convolutional encoder that halves the image once for each hidden width, and a decoder that doubles it back.

    The decoder doubles by shuffling pixels (Shi et al. 2016), so no layer works at full size, and crops to odd sizes. Hidden
    layers of the widths `linear` lie between convolutions and latent.
    """
    shapes = [image_shape]
    encoder: list[Layer] = []
    for width in hidden:
        conv = Conv2d(shapes[-1][2], width, kernel_size=3 if encoder else 5, stride=2)
        encoder += [conv, SiLU()]
        shapes.append(conv.output_shape(shapes[-1]))
    smallest = shapes[-1]
    encoder += [Flatten(), *linear_layers((prod(smallest), *linear, latent_dim * (2 if variational else 1)))]
    decoder: list[Layer] = [*linear_layers((latent_dim, *reversed(linear), prod(smallest))), SiLU(), Unflatten(*smallest)]
    for (_, _, in_channels), (height, width, channels) in pairwise(reversed(shapes)):
        decoder += [Conv2d(in_channels, 4 * channels, 3, 1), PixelShuffle(2), Crop(height, width), SiLU()]
    return Network(image_shape, latent_dim, tuple(encoder), (*decoder[:-1], Sigmoid()))


def build_unet(image_shape: Shape, hidden: Sequence[int]) -> Network:
    """Build a U-Net from images to images of any size, with one scale for each hidden width.

    Each scale has three residual blocks on either side, the smallest has two. Skip connections are added (Ronneberger, Fischer &
    Brox 2015, concatenate them). The network works on pixel-unshuffled images (FFDNet: Zhang, Zuo & Zhang 2018), changes scale by
    unshuffling pixels too, which is lossless, and predicts the residual to add to the image (DnCNN: Zhang et al. 2017).

    Raises:
        ValueError: the height or width of `image_shape` is not a multiple of 2 ** len(hidden).
    """
    multiple = 2 ** len(hidden)
    if image_shape[0] % multiple or image_shape[1] % multiple:
        raise ValueError(f"a U-Net with {len(hidden)} scales needs crops whose sides are multiples of {multiple}")
    channels = 4 * image_shape[2]
    layers: list[Layer] = [Conv2d(channels, hidden[0], 3, 1)]
    for larger, smaller in pairwise(hidden):
        layers += [*residual_block(larger) * 3, PushSkip(), PixelUnshuffle(2), Conv2d(4 * larger, smaller, 1, 1)]
    layers += residual_block(hidden[-1]) * 2
    for smaller, larger in pairwise(reversed(hidden)):
        layers += [Conv2d(smaller, 4 * larger, 1, 1), PixelShuffle(2), AddSkip(), *residual_block(larger) * 3]
    # A gate, because the fraction of a pattern that is noise is a factor: without noise, it is 0 for every pattern.
    layers += [PushSkip(), Conv2d(hidden[0], 2 * hidden[0], 1, 1), Gate(), AddSkip(), Conv2d(hidden[0], channels, 3, 1)]
    return Network(image_shape, 0, (), (PushSkip(), PixelUnshuffle(2), *layers, PixelShuffle(2), AddSkip(), Clip()))


def residual_block(width: int) -> list[Layer]:
    """Two convolutions whose output is added to their input (He et al. 2016)."""
    return [PushSkip(), Conv2d(width, width, 3, 1), ReLU(), Conv2d(width, width, 3, 1), AddSkip()]


def architecture(network: Network) -> Literal["mlp", "conv", "unet"]:
    """The kind of a network."""
    if not network.has_latent:
        return "unet"
    return "conv" if any(isinstance(layer, Conv2d) for layer in network.encoder) else "mlp"


def network_to_json(network: Network) -> dict[str, Any]:
    """The network as JSON values."""
    halves = {half: layers_to_json(layers) for half, layers in network.halves()}
    return {"image_shape": list(network.image_shape), "latent_dim": network.latent_dim, **halves}


def network_from_json(values: Any) -> Network:
    """The network that `network_to_json` wrote.

    Raises:
        ValueError, TypeError or KeyError: the values do not describe a network.
    """
    image_shape, latent_dim = values["image_shape"], values["latent_dim"]
    if not isinstance(image_shape, list) or any(type(size) is not int for size in (*image_shape, latent_dim)):
        raise ValueError("image_shape must be a list of integers and latent_dim an integer")
    return Network(tuple(image_shape), latent_dim, layers_from_json(values["encoder"]), layers_from_json(values["decoder"]))


def split_pairs(images: Any, network: Network) -> tuple[Any, Any]:
    """The clean images and the noisy ones to encode, of pairs (N, H, W, 2 C); single images (N, H, W, C) are both."""
    channels = network.image_shape[2]
    return (images, images) if images.shape[-1] == channels else (images[..., :channels], images[..., channels:])


def half_weights(half: str, weights: Mapping[str, T]) -> dict[str, T]:
    """The weights of one half of a network, named `<layer>.<name>` without the prefix."""
    return {name.removeprefix(f"{half}."): weight for name, weight in weights.items() if name.startswith(f"{half}.")}
