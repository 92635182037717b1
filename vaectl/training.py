"""Learning a network's weights from pictures: the objective's descent, reported through a callback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vaectl import corruption, objective
from vaectl.batches import PIXEL, Feed, Stock
from vaectl.engines.torch import TorchDraw, module
from vaectl.errors import VaectlError
from vaectl.models import Settings
from vaectl.networks import Network
from vaectl.objective import Likelihood
from vaectl.states import State
from vaectl.weights import Weights, initialise

LOOK_EVERY = 10  # steps
NO_MEMORY = ("allocate memory", "not enough memory", "out of memory")  # as torch says it


@dataclass(frozen=True)
class Progress:
    """How far the training is; the loss and its parts are means over the epoch so far, in nats an image."""

    step: int
    steps: int
    begun_at: int  # the step after which an earlier run was interrupted
    epoch: int
    ends_epoch: bool
    settings: Settings
    loss: float
    reconstruction: float
    kl: float

    def means(self) -> dict[str, float]:
        """The loss and its parts."""
        return {"loss": self.loss, "reconstruction": self.reconstruction, "kl": self.kl}


@dataclass(frozen=True)
class Trained:
    """The weights, named as `Network.tensors` names them, the likelihood's sigma, and each epoch's mean loss in nats an image."""

    tensors: dict[str, NDArray[np.float32]]
    sigma: float | None
    epochs: list[dict[str, float]]


Report = Callable[[Progress], None]
# Called after each step with what can tell where the training stands.
Keep = Callable[["Run"], None]


def fit(
    network: Network,
    stock: Stock,
    settings: Settings,
    device: str,
    report: Report,
    keep: Keep = lambda run: None,
    start: State | None = None,
) -> Trained:
    """What `settings` lead to on the pictures of `stock`.

    `report` is called every few steps and at the end of each epoch, `keep` before the first step and after each. The same seed,
    device and number of threads give the same weights, bit by bit, also where the training goes on from the state, `start`, of
    an earlier run.

    Raises:
        VaectlError: the loss is no number any more, or memory ran out.
    """
    with memory_told(settings):
        return descended(network, stock, settings, device, report, keep, start)


def descended(
    network: Network, stock: Stock, settings: Settings, device: str, report: Report, keep: Keep, start: State | None
) -> Trained:
    """What `fit` gives."""
    random = Generator(device).manual_seed(settings.seed)
    dtype = working_precision(settings.precision, device)
    corruptions = corruption.parse(settings.corrupt, photographs=not network.latent)
    encoder, decoder = module(network.encoder).to(device), module(network.decoder).to(device)
    initialise(network, encoder, decoder, stock.sample(), random)
    halves = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    weights = Weights(halves, dtype, settings.adam)
    to_logits = decoder[:-1]  # all but the closing sigmoid or clip

    draw = TorchDraw(random, dtype)
    likelihood = objective.likelihood(settings.likelihood, settings.sigma, network.linear)
    feed = Feed(stock, settings.batch_size, settings.epochs, random)
    looks = Looks(settings, likelihood, feed, report)
    run = Run(weights, likelihood, feed, looks)
    if start:
        run.go_on(start)
    keep(run)
    for batch in feed:
        clean = batch.to(dtype).mul_(PIXEL)
        if settings.binarize:
            clean = draw.binarized(clean)
        spoiled = corruption.applied(corruptions, clean, draw).to(dtype)
        logits, kl = objective.forward(encoder, to_logits, spoiled, network.latent, draw.normal, settings.samples)
        target = objective.repeated(clean, len(logits) // len(clean))
        likelihood.observe(logits.detach(), target)
        looks.look(logits, target, kl)
        descend(likelihood, logits, target, kl, settings.beta)
        weights.step(settings.lr * rate(feed.step / feed.steps, settings.warmup))
        keep(run)
    looks.check(weights.master.sum().item())
    weights.restore()
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in halves.state_dict().items()}
    return Trained(tensors, likelihood.sigma, looks.epochs)


def descend(likelihood: Likelihood, logits: Tensor, target: Tensor, kl: Tensor, beta: float) -> None:
    """Send back the gradient of the mean of -log p(x|z) + beta * KL.

    It flows from a stand-in that has the same gradient by the logits: the loss itself costs more, and nobody looks at it.
    """
    residual = likelihood.residual(logits.detach(), target) / len(target)
    ((logits * residual).sum() + beta * kl.mean()).backward()


def rate(done: float, warmup: float) -> float:
    """The share of the learning rate when a share of all steps is `done`: up in a straight line, then down to 0 in another."""
    return min(done / warmup, (1 - done) / (1 - warmup))


def working_precision(name: str, device: str) -> torch.dtype:
    """The type in which the layers compute; "auto" is bfloat16 where the hardware multiplies it faster than float32."""
    if name == "auto":
        if device.startswith("cuda"):
            name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        else:
            abilities = torch.cpu.get_capabilities()
            name = "bf16" if device == "cpu" and (abilities.get("avx512_bf16") or abilities.get("amx_bf16")) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def arithmetic(precision: str, device: str) -> dict[str, str]:
    """Where and in which type a training computes."""
    return {"device": device, "precision": str(working_precision(precision, device)).removeprefix("torch.")}


def machine() -> dict[str, str | int]:
    """What else of a machine bears on the weights' bits."""
    return {"processor": torch.backends.cpu.get_cpu_capability(), "number of threads": torch.get_num_threads()}


class Looks:
    """Computes the loss now and then, for the eyes alone, and reports it."""

    def __init__(self, settings: Settings, likelihood: Likelihood, feed: Feed, report: Report) -> None:
        self.settings = settings
        self.likelihood = likelihood
        self.feed = feed
        self.begun_at = 0
        self.report = report
        self.seen: list[Tensor] = []
        self.epochs: list[dict[str, float]] = []

    @torch.no_grad()
    def look(self, logits: Tensor, target: Tensor, kl: Tensor) -> None:
        """Look every few steps and at each epoch's end; raises VaectlError when the loss is no number."""
        step, ends_epoch = self.feed.step, self.feed.ends_epoch
        if step % LOOK_EVERY and not ends_epoch:
            return
        self.seen.append(torch.stack([self.likelihood.nll(logits.float(), target.float()).mean(), kl.mean()]))
        reconstruction, kl_mean = torch.stack(self.seen).mean(0).tolist()
        loss = reconstruction + self.settings.beta * kl_mean
        self.check(loss)
        epoch = ceil(step / self.feed.steps_an_epoch)
        progress = Progress(step, self.feed.steps, self.begun_at, epoch, ends_epoch, self.settings, loss, reconstruction, kl_mean)
        self.report(progress)
        if ends_epoch:
            self.epochs.append(progress.means())
            self.seen.clear()

    def check(self, value: float) -> None:
        """Raise a VaectlError where a value that the training has come to is no number."""
        if not np.isfinite(value):
            raise VaectlError(f"the loss is no number any more at step {self.feed.step}: lower --lr (it is {self.settings.lr:g})")


@dataclass(frozen=True)
class Run:
    """A training as it stands between two steps."""

    weights: Weights
    likelihood: Likelihood
    feed: Feed
    looks: Looks

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.feed.step

    @property
    def steps(self) -> int:
        """How many there will be."""
        return self.feed.steps

    @property
    def ends_epoch(self) -> bool:
        """Whether the last of them ended an epoch."""
        return self.feed.ends_epoch

    def state(self) -> State:
        """All on which the next steps depend.

        Raises:
            VaectlError: a weight is no number any more.
        """
        for vector in (self.weights.master, self.weights.first, self.weights.second):
            self.looks.check(vector.sum().item())
        seen = torch.stack(self.looks.seen) if self.looks.seen else torch.empty(0, 2)
        tensors = {
            "weights": self.weights.master,
            "first": self.weights.first,
            "second": self.weights.second,
            "likelihood": self.likelihood.state(),
            "seen": seen.float(),
            "random": self.feed.random.get_state(),
            "random_of_epoch": self.feed.random_of_epoch,
        }
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return State(self.feed.step, list(self.looks.epochs), arrays)

    def go_on(self, state: State) -> None:
        """Stand where the training stood that had this state."""
        tensors = {name: torch.from_numpy(array) for name, array in state.tensors.items()}
        if tensors["weights"].shape != self.weights.master.shape:
            raise VaectlError("the state is of a network of another size: start anew with --force")
        self.weights.go_on(tensors["weights"], tensors["first"], tensors["second"], state.step)
        self.likelihood.go_on(tensors["likelihood"])
        self.looks.seen = list(tensors["seen"].to(self.weights.master.device))
        self.looks.epochs = list(state.epochs)
        self.looks.begun_at = self.feed.step = state.step
        self.feed.random.set_state(tensors["random"])
        self.feed.random_of_epoch = tensors["random_of_epoch"]


@contextmanager
def memory_told(settings: Settings) -> Iterator[None]:
    """Turns torch's and NumPy's lack of memory into an error that helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU, torch has no kind of error of its own for it.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY):
            samples = f" or --samples (it is {settings.samples})" if settings.samples > 1 else ""
            raise VaectlError(f"memory ran out: lower --batch-size (it is {settings.batch_size}){samples}") from error
        raise
