"""What a training run is asked to do: the words and numbers it takes, and the network that they describe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from vaectl.base.arrays import MAX_FLOAT32
from vaectl.base.errors import UsageError
from vaectl.base.shapes import Shape
from vaectl.datasets.load import Dataset
from vaectl.datasets.samples import Preprocessing
from vaectl.models import network as networks
from vaectl.models import presets
from vaectl.models.checkpoint import Card
from vaectl.models.network import Network

ModelName = Literal["ae", "dae", "vae"]
Architecture = Literal["mlp", "conv", "unet"]
Fit = Literal["crop", "pad", "stretch"]
LikelihoodName = Literal["bernoulli", "gaussian"]
Objective = Literal["elbo", "iwae"]
Precision = Literal["auto", "fp32", "bf16"]
CHOICES = {
    "model": ModelName,
    "net": Architecture,
    "fit": Fit,
    "likelihood": LikelihoodName,
    "objective": Objective,
    "precision": Precision,
}


def check_choices(**values: str | None) -> None:
    """Raise UsageError for an unknown model, architecture, fit, likelihood or precision; None is not checked."""
    for name, value in values.items():
        if value is not None and value not in get_args(CHOICES[name]):
            raise UsageError(f"{name}={value!r}: choose one of {', '.join(get_args(CHOICES[name]))}")


def check_numbers(smallest: float, **values: float | None) -> None:
    """Raise UsageError for a number that is too small, NaN or infinite in float32; None is not checked."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, int | float) and smallest <= value <= MAX_FLOAT32):
            raise UsageError(f"{name}={value!r}: give a finite number {'above 0' if smallest else 'that is not negative'}")


def check_objective(objective: Objective, samples: int, kl_warmup: int, beta: float) -> None:
    """Raise UsageError for an objective of models with a KL where there is none, or of several samples where there is one."""
    if (objective == "iwae" or kl_warmup) and not beta:
        raise UsageError("--objective iwae and --kl-warmup are for models with a KL: use a vae, or add --beta")
    if objective == "iwae" and samples < 2:
        raise UsageError("one sample is not importance-weighted: add --samples, as in --objective iwae --samples 5")


@dataclass(frozen=True)
class NetworkOptions:
    """The network that is asked for, and the images it takes; what is None is chosen to suit the model and the data.

    `size` is the height and width of images, or for a unet of the crops it learns from; `fit` says how others are resized.
    """

    net: Architecture | None
    latent_dim: int | None
    hidden: Sequence[int] | None
    size: tuple[int, int] | None
    channels: int | None
    fit: Fit

    @property
    def is_unet(self) -> bool:
        """Whether it has no latent, and learns from crops of photos."""
        return self.net == "unet"

    def of_card(self, card: Card) -> "NetworkOptions":
        """Those of a checkpoint to go on from.

        Raises:
            UsageError: others were asked for.
        """
        height, width, channels = card.network.image_shape
        own = (networks.architecture(card.network), card.network.latent_dim, channels)
        asked = (self.net, self.latent_dim, self.channels)
        if self.size or self.hidden or any(given not in (None, value) for given, value in zip(asked, own, strict=True)):
            raise UsageError("--from takes the network of its FILE: leave out --net, --latent, --hidden, --size and --gray")
        return NetworkOptions(own[0], self.latent_dim, None, (height, width), channels, cast(Fit, card.fit))

    def preprocessing(self, *, skip_bad: bool) -> Preprocessing:
        """How the images of a data set are resized."""
        return Preprocessing(
            None if self.is_unet else self.size, self.channels, self.fit, keep_size=self.is_unet, skip_bad=skip_bad
        )

    def image_shape(self, dataset: Dataset) -> Shape:
        """The shape of what the network takes, (H, W, C): the images of a data set, or crops of them."""
        return (*(self.size or presets.UNET_CROP), dataset.image_shape[2]) if self.is_unet else dataset.image_shape

    def build(self, model: ModelName, image_shape: Shape, *, variational: bool) -> Network:
        """The network.

        Raises:
            UsageError: sizes that do not make a network.
        """
        architecture = self.net or presets.default_architecture(image_shape)
        try:
            return presets.build_network(model, architecture, image_shape, self.latent_dim, self.hidden, variational=variational)
        except ValueError as error:
            raise UsageError(f"these sizes do not make a network: {error}: change --size, --latent or --hidden") from error
