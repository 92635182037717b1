"""The registry: three models, one network with two dials; and every hyperparameter.

z     ~  encoder(corrupt(x))                 a point where beta is 0, else mu + sigma * epsilon
loss  =  -log p(x | z)  +  beta * KL         Kingma & Welling, equation 10
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any


@dataclass(frozen=True)
class Model:
    """Where a model's dials stand unless the user turns them.

    `corrupt` is what is done to a picture before it is encoded; `beta` how strongly the latent is pulled to N(0, I), which
    also makes it a distribution; `latent` how many dimensions it has.
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
    # A memory of 20 steps for the gradient's size: Adam's usual 1,000 are as many as a short run has.
    adam: tuple[float, float] = (0.9, 0.95)
    # The share of all steps in which the rate rises, while Adam learns the gradient's size.
    warmup: float = 0.05


# Long enough for a plane of MNIST that shows every digit, at a quarter of the time that the study's ten epochs take ...
EPOCHS = 15
# ... and as many more as few pictures need to be learned at all.
FEWEST_STEPS = 1000
# Large enough that matrix products fill the cores, small enough that an epoch of MNIST still takes hundreds of steps.
BATCH_SIZE = 256
# On MNIST the best rate is 0.01 for 468 steps of 256 pictures and falls to 0.005 at 3,500; smaller batches bear less of it.
LR, LR_STEPS = 0.01, 468


def settings(
    pictures: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    **others: Any,
) -> Settings:
    """Settings for learning from so many pictures, chosen where they are None; `others` are fields of Settings."""
    batch_size = min(batch_size or BATCH_SIZE, pictures)
    steps_an_epoch = pictures // batch_size
    epochs = epochs or max(EPOCHS, ceil(FEWEST_STEPS / steps_an_epoch))
    if lr is None:
        lr = LR * min(1.0, LR_STEPS / (epochs * steps_an_epoch)) ** 0.35 * sqrt(min(1.0, batch_size / BATCH_SIZE))
    return Settings(epochs, batch_size, lr, **others)
