"""What a training run will do: the network and the hyperparameters that suit the data, and the images to learn from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import ceil, prod, sqrt
from typing import Any, cast

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import UsageError, warn
from vaectl.base.shapes import Shape
from vaectl.datasets.load import Dataset
from vaectl.datasets.preprocessing import Preprocessing
from vaectl.images.aspect_ratio import Fit
from vaectl.images.corruption import Corruption, parse_corruptions
from vaectl.io.inputs import read_image_file
from vaectl.models import checkpoint, presets
from vaectl.models.checkpoint import Checkpoint
from vaectl.models.network import Network, architecture, network_to_json
from vaectl.training.distributed import World
from vaectl.training.loader import TrainImages, make_dataset
from vaectl.training.loop import resolve_dtype
from vaectl.training.settings import Channels, Hyperparameters, LikelihoodName, NetworkSettings, TrainConfig, TrainSettings


@dataclass(frozen=True)
class TrainDefaults:
    """How long and how fast an architecture is trained by default.

    Small data sets get more `epochs`, up to `min_steps`; where these are more than twice as many, images are moved by up to
    `shift` of their shorter side, or they would be memorized. `lr` is the best peak for a run of `lr_steps`; longer runs and
    smaller batches take less.
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


@dataclass(frozen=True)
class Plan:
    """What a run will do, on `device`, with the other processes of `world`: fit the weights of a network to images.

    `held_out` are the images to evaluate on, (N, H, W, C), or pairs, 0 to 255; `initial` are the weights to start from, if not
    random ones.
    """

    model: str
    fit: str
    skip_bad: bool
    init_from: str | None
    dataset: Dataset
    network: Network
    config: TrainConfig
    corruptions: tuple[Corruption, ...]
    train_images: TrainImages
    held_out: UInt8Array
    initial: Mapping[str, Any] | None
    device: str
    world: World

    def describe(self) -> dict[str, Any]:
        """What a run that is resumed must share with the interrupted one."""
        return {
            "data": self.dataset.describe(),
            "model": self.model,
            "network": network_to_json(self.network),
            "fit": self.fit,
            "from": self.init_from,
            **asdict(self.config),
            "device": self.device if self.world.size == 1 else self.device.partition(":")[0],
            "precision": str(resolve_dtype(self.config.precision, self.device)).removeprefix("torch."),
        }


def make_plan(
    settings: TrainSettings, dataset: Dataset, start: Checkpoint | None, resumed_shift: int | None, device: str, world: World
) -> Plan:
    """Choose what the settings leave open; `resumed_shift` is that of the interrupted run.

    Raises:
        UsageError: settings that do not fit the data or each other.
    """
    specs = settings.corruptions(has_pairs=bool(dataset.noisy))
    image_shape = (
        (*(settings.height_and_width or presets.UNET_CROP), dataset.image_shape[2]) if settings.is_unet else dataset.image_shape
    )
    network = start.card.network if start else build_network(settings, image_shape)
    kind = architecture(network)
    likelihood = settings.likelihood or presets.default_likelihood(kind, image_shape)
    if settings.sigma and likelihood != "gaussian":
        raise UsageError("sigma is for a Gaussian likelihood: add --likelihood gaussian")
    train_images = make_dataset(dataset.train, image_shape, device)
    wanted = replace(
        settings,
        beta=settings.kl_weight,
        corrupt=specs,
        likelihood=cast(LikelihoodName, likelihood),
        shift=resumed_shift if settings.shift is None else settings.shift,
    )
    config = choose_config(wanted, kind, len(train_images), network.max_fan_in, image_shape)
    if config.batch_size < world.size:
        raise UsageError(f"a batch of {config.batch_size} cannot be divided among {world.size} processes: start fewer processes")
    plan = Plan(
        model=settings.model,
        fit=settings.fit,
        skip_bad=settings.skip_bad,
        init_from=None if settings.init_from is None else str(settings.init_from),
        dataset=dataset,
        network=network,
        config=config,
        corruptions=parse_corruptions(specs, read_image_file, on_crops=settings.is_unet),
        train_images=train_images,
        held_out=make_dataset(dataset.held_out, image_shape, "cpu").evaluation_images(),
        initial=start.weights if start else None,
        device=device,
        world=world,
    )
    warn_of_surprises(plan, chose_conv=settings.net is None and kind == "conv")
    return plan


def load_start(settings: TrainSettings) -> tuple[Checkpoint | None, TrainSettings]:
    """The checkpoint to start from, if any, and the settings with what they take over from it.

    Raises:
        UsageError: it is of another kind of model, or another network is asked for.
        VaectlError: it cannot be read.
    """
    if settings.init_from is None:
        return None, settings
    path = str(settings.init_from)
    start = checkpoint.load(path)
    card, network = start.card, start.card.network
    if start.experts:
        warn(f"the training starts without the {start.describe_experts()}, and its result has none")
    if network.variational != settings.is_variational:
        raise UsageError(f"{path!r} is a {card.model}, whose encoder has other outputs: train {card.model} --from {path}")
    height, width, channels = network.image_shape
    own = architecture(network), network.latent_dim, channels
    asked = settings.net, settings.latent_dim, settings.channels
    if settings.size or settings.hidden or any(given not in (None, value) for given, value in zip(asked, own, strict=True)):
        raise UsageError("--from uses the network of its FILE: leave out --net, --latent, --hidden, --size and --gray")
    return start, replace(
        settings,
        net=architecture(network),
        size=(height, width),
        channels=cast(Channels, channels),
        fit=cast(Fit, card.fit),
        likelihood=settings.likelihood or cast(LikelihoodName, card.likelihood),
    )


def check_unet(settings: TrainSettings) -> None:
    """Raise a UsageError for a unet that is not asked to denoise, or to have a latent."""
    corrupts = settings.noisy is not None or settings.corruptions(has_pairs=False)
    if settings.is_unet and (
        settings.latent_dim or settings.is_variational or settings.likelihood == "bernoulli" or not corrupts
    ):
        raise UsageError("a unet has no latent and needs a Gaussian likelihood: use it for a dae, as in train dae --net unet")


def preprocessing(settings: NetworkSettings) -> Preprocessing:
    """How the images of a data set are resized."""
    size = None if settings.is_unet else settings.height_and_width
    return Preprocessing(size, settings.channels, settings.fit, keep_size=settings.is_unet, skip_bad=settings.skip_bad)


def build_network(settings: TrainSettings, image_shape: Shape) -> Network:
    """The network that is asked for.

    Raises:
        UsageError: sizes that do not make a network.
    """
    kind = settings.net or presets.default_architecture(image_shape)
    sizes = image_shape, settings.latent_dim, settings.hidden
    try:
        return presets.build_network(settings.model, kind, *sizes, variational=settings.is_variational)
    except ValueError as error:
        raise UsageError(f"these sizes do not make a network: {error}: change --size, --latent or --hidden") from error


def choose_config(
    wanted: Hyperparameters, architecture: str, n_images: int, max_fan_in: int = 1, image_shape: Shape = (1, 1, 1)
) -> TrainConfig:
    """The hyperparameters for an architecture and a number of images; `wanted` has the beta, the corruptions and the likelihood.

    `max_fan_in` is the number of inputs of the network's widest linear layer.
    """
    is_small_conv = architecture == "conv" and presets.default_architecture(image_shape) == "mlp"
    defaults = DEFAULTS[SMALL_CONV if is_small_conv else architecture]
    likelihood = wanted.likelihood or "bernoulli"
    batch_size = min(wanted.batch_size or defaults.batch_size, n_images)
    steps_per_epoch = n_images // batch_size
    needed = ceil(defaults.min_steps / steps_per_epoch)
    shift, epochs, lr = wanted.shift, wanted.epochs or max(defaults.epochs, needed), wanted.lr
    if shift is None:
        shift = round(defaults.shift * min(image_shape[:2])) if needed > 2 * defaults.epochs else 0
    if lr is None:
        decay = min(1.0, defaults.lr_steps / (epochs * steps_per_epoch)) ** 0.35
        lr = min(defaults.lr * decay * sqrt(min(1.0, batch_size / defaults.batch_size)), MAX_LR_FAN_IN[likelihood] / max_fan_in)
    chosen = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "likelihood": likelihood, "shift": shift}
    given = {found.name: getattr(wanted, found.name) for found in fields(Hyperparameters)}
    return TrainConfig(**given | chosen, betas=defaults.betas, warmup=defaults.warmup)


def warn_of_surprises(plan: Plan, *, chose_conv: bool) -> None:
    """Warn of what users rarely want; `chose_conv` is whether a network of convolutions was not asked for."""
    config, (height, width, _), values = plan.config, plan.network.image_shape, prod(plan.network.image_shape)
    if plan.network.latent_dim > values:
        warn(f"{plan.network.latent_dim} latent dimensions exceed the {values} values of an image")
    if not len(plan.dataset.test):
        warn("too few images to hold any out: metrics will be computed on the training images")
    if chose_conv and (plan.corruptions or plan.dataset.noisy):
        warn(f"this denoiser works at {height} x {width}: --net unet denoises photos at their own size")
    if config.kl_warmup >= config.epochs:
        warn(f"the KL never reaches its full weight: --kl-warmup {config.kl_warmup} is not below --epochs {config.epochs}")
