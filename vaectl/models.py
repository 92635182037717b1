"""The registry: three models, one network with two dials; and every hyperparameter.

z     ~  encoder(corrupt(x))                 a point where beta is 0, else mu + sigma * epsilon
loss  =  -log p(x | z)  +  beta * KL         Kingma & Welling, equation 10
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, prod, sqrt
from typing import Any

from vaectl import networks
from vaectl.layers import Shape
from vaectl.networks import Network


@dataclass(frozen=True)
class Model:
    """Where a model's dials stand unless the user turns them.

    `corrupt` is what is done to a picture before it is encoded; `beta` how strongly the latent is pulled to N(0, I), which
    also makes it a distribution; `latent` how many dimensions it has for digits and the like.
    """

    summary: str
    corrupt: tuple[str, ...]
    beta: float
    latent: int


MODELS = {
    "ae": Model("plain autoencoder", corrupt=(), beta=0.0, latent=64),
    "dae": Model("denoising autoencoder", corrupt=("gaussian:0.25",), beta=0.0, latent=128),
    "vae": Model("variational autoencoder", corrupt=(), beta=1.0, latent=10),
}


# Grey pictures up to this side are digits and the like: on MNIST fully connected layers learn more in the same time. Their grey
# values are probabilities; natural pictures are normal around their mean (Rybkin et al. 2021).
SMALL = 32
HIDDEN = {"mlp": (500, 500), "unet": (48, 96, 192)}
CROP = (64, 64)  # what a unet learns from: larger crops brought less, for fewer different ones are seen in the same time
# Convolutions halve a picture until so few pixels are left along its shorter side ...
FEW_PIXELS = 8
# ... and have twice as many channels at each halving, so that all sizes take equally long.
FEWEST_CHANNELS, MOST_CHANNELS = 16, 256
LATENT = 128  # dimensions for natural pictures; where a distribution needs fewer, the KL leaves the others unused


def kind_of_network(picture: Shape) -> str:
    """The kind of network that suits pictures of this shape."""
    return "mlp" if picture[2] == 1 and max(picture[:2]) <= SMALL else "conv"


def usual_likelihood(net: str, picture: Shape) -> str:
    """The likelihood that suits pictures of this shape in such a network."""
    return "bernoulli" if net != "unet" and kind_of_network(picture) == "mlp" else "gaussian"


def usual_latent(model: str, picture: Shape) -> int:
    """How many latent dimensions suit such a model of pictures of this shape: at most half as many as they have values."""
    dimensions = MODELS[model].latent if kind_of_network(picture) == "mlp" else LATENT
    return min(dimensions, ceil(prod(picture) / 2))


def network(net: str, picture: Shape, latent: int, hidden: Sequence[int] | None, *, variational: bool) -> Network:
    """A network of a kind: "mlp", "conv" or "unet"; `hidden` are the widths of its layers or scales, chosen where None.

    Raises:
        ValueError: sizes that make no network.
    """
    if net == "unet":
        return networks.unet(picture, hidden or HIDDEN["unet"])
    if net == "conv":
        return networks.conv(picture, latent, hidden or conv_widths(picture), variational=variational)
    return networks.mlp(picture, latent, hidden or HIDDEN["mlp"], variational=variational)


def conv_widths(picture: Shape) -> list[int]:
    """How many channels each halving of a picture leads to."""
    halvings = max(1, ceil(log2(min(picture[:2]) / FEW_PIXELS)))
    return [min(MOST_CHANNELS, FEWEST_CHANNELS << halving) for halving in range(halvings)]


@dataclass(frozen=True)
class Settings:
    """How a model is trained, every hyperparameter; `settings` chooses those that the user leaves open."""

    epochs: int
    batch_size: int
    lr: float  # the peak of Adam's rate
    beta: float
    corrupt: tuple[str, ...]
    likelihood: str = "bernoulli"
    sigma: float | None = None  # of a gaussian likelihood; None learns it
    samples: int = 1  # draws of z for each picture, the paper's L
    binarize: bool = False  # each pixel drawn anew as white or black at every visit
    precision: str = "auto"
    seed: int = 0
    adam: tuple[float, float] = (0.9, 0.95)
    # The share of all steps in which the rate rises, while Adam learns the gradient's size.
    warmup: float = 0.05


@dataclass(frozen=True)
class Pace:
    """How long and how fast a kind of network learns, unless the user says otherwise.

    `epochs` are as many more as few pictures need to come to `fewest_steps`. `lr` is the best peak of the rate for `lr_steps`;
    longer trainings, and smaller batches, bear less of it. `adam` are Adam's two memories.
    """

    epochs: int
    fewest_steps: int
    batch_size: int
    lr: float
    lr_steps: int
    # A memory of 20 steps for the gradient's size: Adam's usual 1,000 are as many as a short run has.
    adam: tuple[float, float] = (0.9, 0.95)


PACES = {
    # Long enough for a plane of MNIST that shows every digit, at a quarter of the time that the study's ten epochs take. Batches
    # are large enough that matrix products fill the cores, small enough that an epoch of MNIST still takes hundreds of steps.
    "mlp": Pace(epochs=15, fewest_steps=1000, batch_size=256, lr=0.01, lr_steps=468),
    # Small batches: eight times as many steps of eight times fewer pictures bring more in the same time.
    "conv": Pace(epochs=12, fewest_steps=2000, batch_size=32, lr=0.005, lr_steps=468),
    # Many small steps bring more than fewer large ones, and batches so small have a gradient whose size is known later.
    "unet": Pace(epochs=12, fewest_steps=1000, batch_size=4, lr=0.002, lr_steps=4000, adam=(0.9, 0.99)),
}


# A step of Adam moves each weight by as much as the rate, and a sum over many inputs by so many times as much: more than this
# and a Gaussian likelihood, whose gradient grows while its sigma shrinks, runs away.
LARGEST_STEP = 12


def settings(
    net: str,
    pictures: int,
    *,
    widest: int = 1,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    **others: Any,
) -> Settings:
    """Settings for such a network and so many pictures, chosen where they are None; `others` are fields of Settings.

    `widest` is the number of inputs of the network's widest linear row.
    """
    pace = PACES[net]
    batch_size = min(batch_size or pace.batch_size, pictures)
    steps_an_epoch = pictures // batch_size
    epochs = epochs or max(pace.epochs, ceil(pace.fewest_steps / steps_an_epoch))
    if lr is None:
        slower = min(1.0, pace.lr_steps / (epochs * steps_an_epoch)) ** 0.35
        lr = min(pace.lr * slower * sqrt(min(1.0, batch_size / pace.batch_size)), LARGEST_STEP / widest)
    return Settings(epochs, batch_size, lr, adam=pace.adam, **others)
