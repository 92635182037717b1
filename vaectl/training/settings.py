"""Every setting of a training run, declared once: its name, type, default, option in the shell, bounds and help.

The options of `vaectl train`, the signature of `vaectl.train`, the checks, the card, and what a resumed run must share follow
from these declarations. This module imports neither NumPy nor torch, so that `--help` stays fast.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, MISSING, Field, dataclass, field, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args

from vaectl.base.errors import UsageError
from vaectl.images.aspect_ratio import Fit
from vaectl.images.corruption import SPECS_HELP
from vaectl.models.presets import MODELS

if TYPE_CHECKING:
    from vaectl.base.arrays import UInt8Array
    from vaectl.datasets.load import Data
    from vaectl.models.autoencoder import Autoencoder
    from vaectl.training.progress import Progress

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")

ModelName = Literal["ae", "dae", "vae"]
Architecture = Literal["mlp", "conv", "unet"]
LikelihoodName = Literal["bernoulli", "gaussian"]
Objective = Literal["elbo", "iwae"]
Schedule = Literal["linear", "cosine"]
Precision = Literal["auto", "fp32", "bf16"]
Channels = Literal[1, 3]
Path = str | os.PathLike[str]

MAX_SIDE = 4096  # pixels, far more than any of the networks can learn
MAX_FLOAT32 = 3.4028234663852886e38  # as in base.arrays, which imports NumPy


@dataclass(frozen=True)
class Setting:
    """How a setting is given: its `flags` in the shell (none: in Python only), its help, and the numbers that it may have.

    A flag without a dash is an argument. `shell_type` is its type in the shell where that differs; `parse` converts it.
    """

    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    shell_type: Any = None
    parse: Callable[[Any], Any] | None = None


def do_nothing(*values: Any) -> None:
    """Ignore the values: the default of callbacks."""


def setting(default: Any, *flags: str, help: str, **others: Any) -> Any:
    """A field that is a setting; the arguments are those of `Setting`."""
    return field(default=default, metadata={"setting": Setting(flags, help, **others)})


def find_settings(owner: Any) -> Iterator[tuple[Field[Any], Setting]]:
    """The fields of a dataclass that are settings."""
    return ((found, found.metadata["setting"]) for found in fields(owner) if "setting" in found.metadata)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width in "64" or "48x64".

    Raises:
        UsageError: anything else.
    """
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= MAX_SIDE for part in parts):
        raise UsageError(f"--size {text!r}: give 1 to {MAX_SIDE} pixels, as in --size 64 or --size 48x64 (height x width)")
    return int(parts[0]), int(parts[-1])


def parse_widths(text: str) -> list[int]:
    """The widths in "500,500".

    Raises:
        UsageError: anything else.
    """
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--hidden {text!r}: give positive widths, as in --hidden 500,500")
    return [int(part) for part in parts]


@dataclass(frozen=True)
class NetworkSettings:
    """The model, its data, and the network; what is None is chosen to suit them."""

    model: ModelName = setting(MISSING, "MODEL", help="Plain (ae), denoising (dae) or variational (vae) autoencoder.")
    data: "Data" = setting(
        "mnist",
        "--data",
        help="A data set (mnist is bundled, others are downloaded once), a folder, FILE.npz (x_train, x_test), FILE.npy, tar "
        "files or a URL.",
        metavar="DATA",
        shell_type=str,
    )
    _: KW_ONLY
    noisy: "Data | None" = setting(
        None,
        "--noisy",
        help="The noisy versions of the images in --data, in files of the same names.",
        metavar="DIR",
        shell_type=str | None,
    )
    init_from: Path | None = setting(
        None,
        "--from",
        help="Start from the network and weights of a checkpoint, for example to fine-tune it on other data.",
        metavar="FILE",
        shell_type=str | None,
    )
    latent_dim: int | None = setting(
        None,
        "--latent",
        "--latent-dim",
        help="Latent dimension (default: ae 64, dae 128, vae 10; 128 for larger or color images).",
        metavar="N",
        low=1,
    )
    net: Architecture | None = setting(
        None, "--net", help="Architecture (default: mlp; conv above 32 x 32 or in color). A unet denoises images of any size."
    )
    hidden: Sequence[int] | None = setting(
        None,
        "--hidden",
        help="Hidden units (mlp), or channels per stage (conv, unet).",
        metavar="N,N",
        low=1,
        shell_type=str | None,
        parse=parse_widths,
    )
    size: int | tuple[int, int] | None = setting(
        None,
        "--size",
        help="Resize images, or crop them for a unet (default: as the data).",
        metavar="N|HxW",
        low=1,
        shell_type=str | None,
        parse=parse_size,
    )
    channels: Channels | None = setting(
        None,
        "--gray/--color",
        "--grey/--colour",
        help="Channels of an image (default: as the data).",
        shell_type=bool | None,
        parse=lambda gray: 1 if gray else 3,
    )
    fit: Fit = setting("crop", "--fit", help="How images of another aspect ratio are resized.")
    skip_bad: bool = setting(False, "--skip-bad", help="List and skip images that cannot be read.")

    @property
    def is_unet(self) -> bool:
        """Whether the network has no latent, and learns from crops of photos."""
        return self.net == "unet"

    @property
    def height_and_width(self) -> tuple[int, int] | None:
        """`size`, if it is given."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """How the network learns; what is None is chosen to suit the network and the data."""

    epochs: int | None = setting(
        None, "--epochs", help="Epochs (default: mlp 15, conv 12, unet 6; more for small data).", metavar="N", low=1
    )
    batch_size: int | None = setting(
        None,
        "--batch-size",
        help="Images per step (default: mlp 256, conv 32 or 256 for digits, unet 8).",
        metavar="N",
        low=1,
    )
    lr: float | None = setting(
        None, "--lr", help="Peak learning rate (default: depends on the number of steps).", metavar="X", low=1e-12
    )
    schedule: Schedule = setting("linear", "--schedule", help="How the learning rate decays to 0 after the warm-up.")
    beta: float | None = setting(None, "--beta", help="Weight of the KL (default: vae 1, ae and dae 0).", metavar="X", low=0)
    corrupt: str | Sequence[str] | None = setting(
        None,
        "--corrupt",
        help=f"Corrupt images before they are encoded: {SPECS_HELP} (default: dae gaussian:0.25).",
        metavar="SPEC",
        shell_type=list[str] | None,
    )
    samples: int = setting(
        1,
        "--samples",
        help="Samples of z per image: L in Kingma & Welling, k of iwae.",
        metavar="L",
        low=1,
        high=1_000_000,
    )
    objective: Objective = setting(
        "elbo", "--objective", help="The bound: elbo (Kingma & Welling 2014), or iwae with --samples (Burda et al. 2016)."
    )
    kl_warmup: int = setting(
        0,
        "--kl-warmup",
        help="Epochs over which the weight of the KL rises from 0 (Sønderby et al. 2016).",
        metavar="N",
        low=0,
    )
    likelihood: LikelihoodName | None = setting(
        None, "--likelihood", help="Likelihood of a pixel (default: bernoulli for small gray images, else gaussian)."
    )
    sigma: float | None = setting(
        None, "--sigma", help="Sigma of a Gaussian likelihood (default: learned).", metavar="X", low=1e-3
    )
    binarize: bool = setting(
        False, "--binarize", help="Dynamic binarization: sample each pixel as 0 or 1 each time an image is used."
    )
    shift: int | None = setting(
        None,
        "--shift",
        help="Shift images at random by up to N pixels (default: a few for small data sets).",
        metavar="N",
        low=0,
    )
    precision: Precision = setting("auto", "--precision", help="Floating-point type of the layers.")
    seed: int = setting(0, "--seed", help="Random seed.", metavar="N", low=0, high=2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Hyperparameters):
    """The hyperparameters of a run, all of them chosen."""

    epochs: int
    batch_size: int
    lr: float
    beta: float
    corrupt: tuple[str, ...]
    likelihood: LikelihoodName = "bernoulli"
    shift: int = 0
    betas: tuple[float, float] = (0.9, 0.95)  # Adam's
    warmup: float = 0.05  # the fraction of all steps in which the learning rate rises


# What a run had that was saved before a setting existed.
SETTING_DEFAULTS = {found.name: found.default for found in fields(TrainConfig)}


@dataclass(frozen=True)
class TrainSettings(Hyperparameters, NetworkSettings):
    """All that a training run is asked to do.

    Raises:
        UsageError: settings that are invalid or contradict each other.
    """

    _: KW_ONLY
    device: str = setting(
        "auto",
        "--device",
        help="auto, cpu, cuda, cuda:1, mps or xpu; with auto and cpu, small jobs run in NumPy, without loading PyTorch.",
        metavar="NAME",
    )
    output: Path | None = setting(
        None,
        "-o",
        "--output",
        help="The checkpoint to write; in the shell MODEL.safetensors by default.",
        metavar="FILE",
        shell_type=str | None,
    )
    force: bool = setting(False, "-f", "--force", help="Replace an existing checkpoint.")
    resume: bool = setting(False, "--resume", help="Continue an interrupted run, bit-identically.")
    log: Path | None = setting(
        None,
        "--log",
        help="Log each epoch to a folder, for TensorBoard and as epochs.csv; needs the package tensorboard.",
        metavar="DIR",
        shell_type=str | None,
    )
    resume_command: str = setting("vaectl.train(..., resume=True)", help="The call that resumes this run, as messages show it.")
    on_read: Callable[[int, int | None], None] = setting(
        do_nothing, help="Called with the number of images read so far and the total, None if unknown."
    )
    on_progress: "Callable[[Progress], None]" = setting(do_nothing, help="Called every few steps.")
    on_end: "Callable[[Autoencoder, UInt8Array], None]" = setting(
        do_nothing,
        help="Called with the trained model and the images (N, H, W, C) it was evaluated on; for pairs, the noisy ones.",
    )

    def __post_init__(self) -> None:
        for found, declared in find_settings(self):
            value = getattr(self, found.name)
            if value is not found.default or (value is None and found.default is not None):
                check_value(found.name, value, found.type, declared)
        if (self.objective == "iwae" or self.kl_warmup) and not self.is_variational:
            raise UsageError("--objective iwae and --kl-warmup are for models with a KL: use a vae, or add --beta")
        if self.objective == "iwae" and self.samples < 2:
            raise UsageError("iwae needs several samples: add --samples, as in --objective iwae --samples 5")
        if self.noisy is not None and (self.model != "dae" or self.binarize):
            raise UsageError("noisy images are for a dae that is not binarized: use train dae --noisy")

    @property
    def kl_weight(self) -> float:
        """`beta`, or that of the model."""
        return MODELS[self.model].beta if self.beta is None else self.beta

    @property
    def is_variational(self) -> bool:
        """Whether the latent is a distribution."""
        return self.kl_weight > 0

    def corruptions(self, *, has_pairs: bool) -> tuple[str, ...]:
        """The specs of corruptions: those given, or those of the model; none by default if the data have noisy partners."""
        if self.corrupt is None:
            return () if has_pairs else MODELS[self.model].corrupt
        return (self.corrupt,) if isinstance(self.corrupt, str) else tuple(self.corrupt)


def check_value(name: str, value: Any, kind: Any, declared: Setting) -> None:
    """Raise a UsageError for a choice that there is not, or a number that is out of bounds, NaN or infinite."""
    parts = (kind, *get_args(kind))
    choices = [choice for part in parts for choice in get_args(part) if isinstance(choice, str | int)]
    if choices and value not in choices:
        raise UsageError(f"{name}={value!r}: choose one of {', '.join(map(str, choices))}")
    if declared.low is None:
        return
    several = isinstance(value, Sequence) and not isinstance(value, str)
    number_type, words = (int | float, "a finite number") if float in parts else (int, "an integer")
    for number in value if several else [value]:
        is_number = isinstance(number, number_type) and not isinstance(number, bool) and (several or {int, float} & {*parts})
        if not is_number or not declared.low <= number <= (declared.high or MAX_FLOAT32):
            above = "above 0" if declared.low else "that is not negative"
            raise UsageError(
                f"{name}={value!r}: give {words} {above}{f', as in {declared.metavar}' if declared.shell_type else ''}"
            )


def taking_settings(make: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Let a function of a dataclass take the arguments of that dataclass, and document them."""

    def decorate(function: Callable[[S], R]) -> Callable[P, R]:
        signature = inspect.signature(make)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(make(*args, **kwargs))

        lines = [f"    {found.name}: {declared.help}" for found, declared in find_settings(make)]
        call.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Args:", *lines])
        call.__signature__ = signature.replace(return_annotation="Autoencoder")  # type: ignore[attr-defined]
        return call

    return decorate
