"""The three models, which are one network with two settings, and the default network for an image shape.

z     ~  encoder(corrupt(x))                 a point if beta is 0, else mu + sigma * epsilon
loss  =  -log p(x | z)  +  beta * KL         Kingma & Welling, equation 10
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, prod

from vaectl.base.shapes import Shape
from vaectl.models import network as networks
from vaectl.models.network import Network


@dataclass(frozen=True)
class ModelDefaults:
    """The default settings of a model.

    `corrupt` is applied to an image before it is encoded; `beta` weights the KL and, above 0, makes the latent a distribution;
    `latent_dim` is for small gray images such as digits.
    """

    summary: str
    corrupt: tuple[str, ...]
    beta: float
    latent_dim: int


MODELS = {
    "ae": ModelDefaults("plain autoencoder", corrupt=(), beta=0.0, latent_dim=64),
    "dae": ModelDefaults("denoising autoencoder", corrupt=("gaussian:0.25",), beta=0.0, latent_dim=128),
    "vae": ModelDefaults("variational autoencoder", corrupt=(), beta=1.0, latent_dim=10),
}

# Gray images up to this side are digits and the like, for which the papers use fully connected layers. Their gray values are
# probabilities; values of natural images are normal around a mean (Rybkin et al. 2021).
MAX_MLP_SIDE = 32
MLP_HIDDEN = (500, 500)
UNET_HIDDEN = (64, 96)
UNET_CROP = (64, 64)  # networks learned less from larger crops: they see fewer of them in the same time
# Convolutions halve an image until about this many pixels are left along its shorter side ...
MIN_CONV_SIDE = 8
# ... and double their channels at each halving, so that every scale costs the same.
MIN_CHANNELS, MAX_CHANNELS = 16, 256
# A hidden layer precedes a latent of few dimensions, which are far from linear in the features. Before many dimensions, it would
# lose too much.
LINEAR_WIDTH, MAX_SMALL_LATENT_DIM = 256, 32
CONV_LATENT_DIM = 128  # for natural images; a VAE that needs fewer leaves the rest inactive


def default_architecture(image_shape: Shape) -> str:
    """The architecture that suits images of this shape: "mlp" or "conv"."""
    return "mlp" if image_shape[2] == 1 and max(image_shape[:2]) <= MAX_MLP_SIDE else "conv"


def default_likelihood(architecture: str, image_shape: Shape) -> str:
    """The likelihood that suits images of this shape in this architecture: "bernoulli" or "gaussian"."""
    return "bernoulli" if architecture != "unet" and default_architecture(image_shape) == "mlp" else "gaussian"


def default_latent_dim(model: str, image_shape: Shape) -> int:
    """The latent dimension that suits images of this shape: at most half their number of values."""
    latent_dim = MODELS[model].latent_dim if default_architecture(image_shape) == "mlp" else CONV_LATENT_DIM
    return min(latent_dim, ceil(prod(image_shape) / 2))


def build_network(
    model: str,
    architecture: str,
    image_shape: Shape,
    latent_dim: int | None = None,
    hidden: Sequence[int] | None = None,
    *,
    variational: bool,
) -> Network:
    """A network of architecture "mlp", "conv" or "unet", with default sizes for what is None.

    `hidden` are hidden units (mlp), or channels per stage (conv, unet).

    Raises:
        ValueError: sizes that do not make a network.
    """
    latent_dim = latent_dim or default_latent_dim(model, image_shape)
    if architecture == "unet":
        return networks.build_unet(image_shape, hidden or UNET_HIDDEN)
    if architecture == "conv":
        widths = hidden or default_conv_widths(image_shape)
        linear = default_linear_widths(image_shape, latent_dim, variational=variational)
        return networks.build_conv(image_shape, latent_dim, widths, linear, variational=variational)
    return networks.build_mlp(image_shape, latent_dim, hidden or MLP_HIDDEN, variational=variational)


def default_conv_widths(image_shape: Shape) -> list[int]:
    """The number of channels after each halving."""
    halvings = max(1, ceil(log2(min(image_shape[:2]) / MIN_CONV_SIDE)))
    return [min(MAX_CHANNELS, MIN_CHANNELS << halving) for halving in range(halvings)]


def default_linear_widths(image_shape: Shape, latent_dim: int, *, variational: bool) -> list[int]:
    """The widths of the hidden layers between convolutions and the latent."""
    if variational and default_architecture(image_shape) == "mlp":
        return [LINEAR_WIDTH, LINEAR_WIDTH]  # a VAE keeps little of a digit, whatever its latent dimension
    return [LINEAR_WIDTH] if latent_dim <= MAX_SMALL_LATENT_DIM else []
