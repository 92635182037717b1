"""Every hyperparameter of a training run, and its default."""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from vaectl.base.shapes import Shape
from vaectl.models.presets import default_architecture


@dataclass(frozen=True)
class TrainConfig:
    """The hyperparameters of a training run; `make_config` fills in the defaults."""

    epochs: int
    batch_size: int
    lr: float  # the peak learning rate
    beta: float
    corrupt: tuple[str, ...]
    likelihood: str = "bernoulli"
    sigma: float | None = None  # of a Gaussian likelihood; None learns it
    samples: int = 1  # samples of z per image, L in Kingma & Welling, k in Burda et al.
    objective: str = "elbo"
    kl_warmup: int = 0  # epochs in which the weight of the KL rises from 0 to beta
    binarize: bool = False  # dynamic binarization
    shift: int = 0  # pixels by which images are moved at random, at most
    precision: str = "auto"
    seed: int = 0
    betas: tuple[float, float] = (0.9, 0.95)  # Adam's
    warmup: float = 0.05  # the fraction of all steps in which the learning rate rises


@dataclass(frozen=True)
class TrainDefaults:
    """How long and how fast an architecture is trained by default.

    Small data sets get more `epochs`, up to `min_steps`; where these are more than twice as many, images are moved by up to
    `shift` of their shorter side, or they would be learned by heart. `lr` is the best peak for a run of `lr_steps`; longer runs
    and smaller batches take less.
    """

    epochs: int
    min_steps: int
    batch_size: int
    lr: float
    lr_steps: int
    shift: float
    # A short memory of squared gradients, 20 steps: the usual 1,000 are as many as a short run has.
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05


SMALL_CONV = "conv of digits and the like"
DEFAULTS = {
    # Long enough for a latent plane of MNIST that shows every digit, in a quarter of the study's time. Batches are large enough
    # to keep the cores busy with matrix products, small enough for hundreds of steps per epoch of MNIST. Two latent dimensions
    # have no room for larger shifts.
    "mlp": TrainDefaults(epochs=15, min_steps=1000, batch_size=256, lr=0.01, lr_steps=468, shift=1 / 28),
    # Small batches: eight times as many steps on an eighth of the images learn more in the same time.
    "conv": TrainDefaults(epochs=12, min_steps=2000, batch_size=32, lr=0.005, lr_steps=468, shift=1 / 16),
    # But not of digits, of which so few leave the cores idle. After a shorter warm-up, two of four runs ended a nat worse, one of
    # them with an unused latent dimension.
    SMALL_CONV: TrainDefaults(epochs=12, min_steps=1000, batch_size=256, lr=0.014, lr_steps=468, shift=1 / 28, warmup=0.2),
    # Many small steps learn more than fewer large ones; the gradients of such batches need a longer memory. Its crops are random
    # anyway.
    "unet": TrainDefaults(epochs=6, min_steps=1000, batch_size=8, lr=0.002, lr_steps=4000, shift=0, betas=(0.9, 0.99)),
}

# A step of Adam moves each weight by the learning rate, and the output of a linear layer by up to fan_in times that. Beyond a
# product of 12 a Gaussian likelihood, whose gradient grows as its sigma shrinks, diverges. A Bernoulli one learns more there.
MAX_LR_FAN_IN = {"bernoulli": 16, "gaussian": 12}


def make_config(
    architecture: str,
    n_images: int,
    *,
    max_fan_in: int = 1,
    image_shape: Shape = (1, 1, 1),
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    likelihood: str = "bernoulli",
    shift: int | None = None,
    **others: Any,
) -> TrainConfig:
    """The config for an architecture and a number of images, with defaults for what is None; `others` are its other fields.

    `max_fan_in` is the number of inputs of the network's widest linear layer.
    """
    is_small_conv = architecture == "conv" and default_architecture(image_shape) == "mlp"
    defaults = DEFAULTS[SMALL_CONV if is_small_conv else architecture]
    batch_size = min(batch_size or defaults.batch_size, n_images)
    steps_per_epoch = n_images // batch_size
    needed = ceil(defaults.min_steps / steps_per_epoch)
    if shift is None:
        shift = round(defaults.shift * min(image_shape[:2])) if needed > 2 * defaults.epochs else 0
    epochs = epochs or max(defaults.epochs, needed)
    if lr is None:
        decay = min(1.0, defaults.lr_steps / (epochs * steps_per_epoch)) ** 0.35
        lr = min(defaults.lr * decay * sqrt(min(1.0, batch_size / defaults.batch_size)), MAX_LR_FAN_IN[likelihood] / max_fan_in)
    return TrainConfig(
        epochs, batch_size, lr, likelihood=likelihood, shift=shift, betas=defaults.betas, warmup=defaults.warmup, **others
    )
