"""A trained model as one safetensors file: the weights, and a card with everything needed to run them.

The card is sorted JSON under the metadata key `vaectl`. Nothing is unpickled, and everything is validated before it is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vaectl.base.arrays import MAX_FLOAT32, MIN_FLOAT32, Array
from vaectl.base.errors import VaectlError
from vaectl.images.noise import Expert
from vaectl.images.resize import ResizeSpec
from vaectl.io import tensor_files
from vaectl.io.tensor_files import check_type, floats, integers
from vaectl.models.latents import LatentStats
from vaectl.models.mixture import Mixture
from vaectl.models.network import Network, network_from_json, network_to_json
from vaectl.models.pretrained import find_pretrained

FORMAT = 1
KEY = "vaectl"
# No prior that was fitted comes near these limits.
MAX_COMPONENTS, MAX_DIMS, MAX_LABELS = 1000, 10_000, 100_000
MAX_EXPERTS = 100
STATE_KEY = "vaectl-training"  # of the state of an unfinished run
LAYOUT = "images are (N, height, width, channel); flatten and unflatten run over height, width, channel"


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about its model.

    Raises:
        ValueError: latent statistics of another dimension, an unknown likelihood or fit, a sigma that is not positive, or a
            negative beta.
    """

    model: str
    network: Network
    fit: str
    likelihood: str
    sigma: float | None
    beta: float
    corrupt: Sequence[str]
    latent_stats: LatentStats
    training: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if any(len(values) != self.network.latent_dim for values in asdict(self.latent_stats).values()):
            raise ValueError(f"its latent statistics do not have {self.network.latent_dim} dimensions")
        if self.likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"its likelihood {self.likelihood!r} is unknown")
        # The likelihood divides by its square.
        if self.sigma is not None and not (self.sigma > 0 and MIN_FLOAT32 <= self.sigma * self.sigma <= MAX_FLOAT32):
            raise ValueError(f"its sigma is {self.sigma}, not positive with a square in the range of float32")
        if self.beta < 0:
            raise ValueError(f"its beta is negative ({self.beta})")
        self.resize_spec  # noqa: B018 - validates the fit

    @property
    def denoises(self) -> bool:
        """Whether the model learned to return clean images for corrupted ones, or for noisy partners."""
        return bool(self.corrupt or self.data.get("noisy"))

    @property
    def resize_spec(self) -> ResizeSpec:
        """How images are resized before they are encoded."""
        return ResizeSpec(self.network.image_shape, self.fit)


@dataclass(frozen=True)
class Checkpoint:
    """A card, the weights it describes, named `encoder.<layer>.weight` and so on, and the learned prior, if there is one.

    A denoiser without a latent may have `experts`: other weights of the same names, for photos with the noise they are for.
    """

    card: Card
    weights: Mapping[str, Array]
    prior: Mixture | None = None
    experts: Sequence[Expert] = ()

    def describe_experts(self) -> str:
        """What its experts are for, in words."""
        ranges = ", ".join(f"{expert.low:g} to {expert.high:g}" for expert in self.experts)
        return f"other weights for photos with noise of sigma {ranges}"


@dataclass(frozen=True)
class PriorSpec:
    """What the JSON of a checkpoint says about its prior: the number of components, the active dimensions, and the labels."""

    components: int
    dims: Sequence[int]
    labels: Sequence[str]

    def tensors(self) -> tensor_files.Expected:
        """The tensors of the prior."""
        count, active = self.components, len(self.dims)
        shapes = {"weights": (count,), "means": (count, active), "factors": (count, active, active)}
        shapes["shares"] = (count, len(self.labels))
        return {f"prior.{name}": (shape, np.float32) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Header:
    """The parsed JSON of a checkpoint: the card, the prior, and the noise range of each expert."""

    card: Card
    prior: PriorSpec | None
    experts: Sequence[tuple[float, float]]


def save(path: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically; with experts, in float16, which halves the file at no measurable cost.

    Raises:
        VaectlError: the file cannot be written.
    """
    dtype = weight_dtype(checkpoint.experts)
    tensors = {name: np.asarray(weight, dtype) for name, weight in checkpoint.weights.items()}
    for index, expert in enumerate(checkpoint.experts):
        tensors |= {expert_prefix(index) + name: np.asarray(weight, dtype) for name, weight in expert.weights.items()}
    if prior := checkpoint.prior:
        tensors |= {name: getattr(prior, name.removeprefix("prior.")) for name in describe_prior(prior).tensors()}
    tensor_files.write(path, tensors, KEY, to_json(checkpoint))


def load(path: str) -> Checkpoint:
    """Read a checkpoint, or a ready-made model by its name.

    Raises:
        VaectlError: the file is missing, damaged, not a checkpoint, or of a newer format.
    """
    path = find_pretrained(path)
    try:
        header, tensors = tensor_files.read(path, KEY, FORMAT, parse, expected_tensors)
        network = header.card.network
        weights = {name: tensors[name].astype(np.float32, copy=False) for name in network.weight_shapes()}
        prior = make_prior(header.card, header.prior, tensors) if header.prior else None
        experts = [
            Expert(low, high, {name: tensors[expert_prefix(index) + name].astype(np.float32) for name in weights})
            for index, (low, high) in enumerate(header.experts)
        ]
        return Checkpoint(header.card, weights, prior, experts)
    except tensor_files.CORRUPTION_ERRORS as error:
        if repr(STATE_KEY) in str(error):
            what = f"{path!r} is the state of an interrupted training run"
            raise VaectlError(what, "continue it with vaectl train ... --resume") from error
        raise VaectlError(f"{path!r} is not a vaectl checkpoint: {error}: use one that vaectl train wrote") from error


def parse(values: dict[str, Any]) -> Header:
    """Everything that the JSON says.

    Raises:
        ValueError, KeyError, TypeError: it is not what `to_json` wrote.
    """
    prior, spec = values.get("prior"), None
    if prior is not None:
        labels = [check_type(label, str) for label in check_type(prior["labels"], list)]
        spec = PriorSpec(integers([prior["components"]])[0], integers(prior["dims"]), labels)
        if not 0 < spec.components <= MAX_COMPONENTS or len(spec.dims) > MAX_DIMS or len(labels) > MAX_LABELS:
            raise ValueError("its prior is too large")
    card = card_from_json(values)
    ranges = [floats([expert["low"], expert["high"]]) for expert in check_type(values.get("experts", []), list)]
    if (ranges and card.network.has_latent) or len(ranges) > MAX_EXPERTS:
        raise ValueError("experts are for networks without a latent, and few")
    return Header(card, spec, [(low, high) for low, high in ranges])


def expected_tensors(header: Header) -> tensor_files.Expected:
    """The weights a card's network needs, those of its experts, and the tensors of its prior."""
    shapes, dtype = header.card.network.weight_shapes(), weight_dtype(header.experts)
    prefixes = ["", *(expert_prefix(index) for index in range(len(header.experts)))]
    weights: tensor_files.Expected = {prefix + name: (shape, dtype) for prefix in prefixes for name, shape in shapes.items()}
    return {**weights, **(header.prior.tensors() if header.prior else {})}


def weight_dtype(experts: Sequence[Any]) -> type[np.generic]:
    """How weights are stored: with experts, there are many."""
    return np.float16 if experts else np.float32


def expert_prefix(index: int) -> str:
    """What the names of an expert's weights begin with in the file."""
    return f"experts.{index}."


def make_prior(card: Card, spec: PriorSpec, tensors: Mapping[str, Array]) -> Mixture:
    """The prior of a checkpoint.

    Raises:
        ValueError: its tensors are not a mixture over the latent space.
    """
    arrays = {name.removeprefix("prior."): tensors[name] for name in spec.tensors()}
    return Mixture(card.network.latent_dim, np.array(spec.dims, np.int64), **arrays, labels=tuple(spec.labels))


def describe_prior(prior: Mixture) -> PriorSpec:
    """What the JSON says about a prior."""
    return PriorSpec(len(prior), prior.dims.tolist(), prior.labels)


def to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything in a checkpoint but its tensors, as JSON values."""
    prior = checkpoint.prior
    experts = [{"low": expert.low, "high": expert.high} for expert in checkpoint.experts]
    return {**card_to_json(checkpoint.card), "prior": asdict(describe_prior(prior)) if prior else None, "experts": experts}


def card_to_json(card: Card) -> dict[str, Any]:
    """The card as JSON values."""
    return {**asdict(card), "network": network_to_json(card.network), "format": FORMAT, "layout": LAYOUT}


def card_from_json(values: Mapping[str, Any]) -> Card:
    """The card that `card_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: anything else.
    """
    return Card(
        model=check_type(values["model"], str),
        network=network_from_json(values["network"]),
        fit=check_type(values["fit"], str),
        likelihood=check_type(values["likelihood"], str),
        sigma=None if values["sigma"] is None else floats([values["sigma"]])[0],
        beta=floats([values["beta"]])[0],
        corrupt=[check_type(spec, str) for spec in check_type(values["corrupt"], list)],
        latent_stats=LatentStats(**{name: floats(stat) for name, stat in check_type(values["latent_stats"], dict).items()}),
        training=check_type(values["training"], dict),
        data=check_type(values["data"], dict),
        metrics=check_type(values["metrics"], dict),
        epochs=[check_type(epoch, dict) for epoch in check_type(values["epochs"], list)],
        versions=check_type(values["versions"], dict),
    )
