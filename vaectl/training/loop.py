"""Fitting a network's weights to images: the training loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, inf, isfinite, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError
from vaectl.images.corruption import Corruption, apply_corruptions
from vaectl.models.network import Network, half_weights, split_pairs
from vaectl.models.torch_engine import TorchRandom, build_module, translate_memory_errors
from vaectl.training import losses
from vaectl.training.distributed import ALONE, World
from vaectl.training.loader import DataLoader, TrainImages, shift_images
from vaectl.training.losses import Likelihood
from vaectl.training.metrics import Metrics
from vaectl.training.optimizer import Optimizer, init_weights
from vaectl.training.progress import LOG_EVERY, MetricLogger, Progress
from vaectl.training.settings import TrainConfig

# The metrics of held-out images for given weights, (N,) each: `loss` and others; none if no images are held out.
Validate = Callable[[Mapping[str, NDArray[np.float32]], Likelihood], Metrics]


@dataclass(frozen=True)
class TrainResult:
    """What a run has learned.

    The weights are named as in `Network.weight_shapes`; they and the likelihood's `sigma` are those after `epoch`. `epochs` has
    the mean losses of each epoch, in nats per image, and its held-out metrics.
    """

    weights: dict[str, NDArray[np.float32]]
    sigma: float | None
    epoch: int
    epochs: list[dict[str, float]]


class Snapshot(NamedTuple):
    """The weights as one vector, and what the likelihood has learned."""

    weights: Tensor
    likelihood: Tensor


@dataclass(frozen=True)
class TrainState:
    """Everything that the steps after `step` depend on.

    `epochs` are the mean losses so far. The tensors are the weights, Adam's moments, what the likelihood has learned, the best
    snapshot, the losses logged in this epoch, and the states of the random generator now and at the beginning of this epoch.
    """

    step: int
    epochs: Sequence[dict[str, float]]
    tensors: Mapping[str, NDArray[Any]]


def train_network(
    network: Network,
    dataset: TrainImages,
    config: TrainConfig,
    corruptions: Sequence[Corruption],
    device: str,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_step: Callable[["Trainer"], None] = lambda trainer: None,
    state: TrainState | None = None,
    validate: Validate = lambda weights, likelihood: {},
    initial: Mapping[str, Array] | None = None,
    world: World = ALONE,
) -> TrainResult:
    """Train a network, from `state` if given, else from the weights `initial` if given; with the other processes of `world`.

    `on_progress` is called every few steps and, after `validate`, at the end of each epoch; `on_step` before the first step and
    after each. The same seed, device and number of threads give bit-identical weights, also if the run was interrupted and
    resumed. If held-out images were better after an earlier epoch, by more than chance, the result is that of the best epoch.

    Raises:
        VaectlError: the loss is NaN or infinite, or memory ran out.
    """
    samples = f" or --samples (it is {config.samples})" if config.samples > 1 else ""
    with translate_memory_errors(f"lower --batch-size (it is {config.batch_size}){samples}"):
        trainer = Trainer(network, dataset, config, corruptions, device, on_progress, validate, initial, world)
        if state:
            trainer.load_state_dict(state)
        on_step(trainer)
        for batch in trainer.loader:
            trainer.train_step(batch)
            on_step(trainer)
        return trainer.result()


class Trainer:
    """A training run between two steps.

    `interrupted` is whether this process wants to stop; `stops`, whether any did before the last step: then all do.
    """

    def __init__(
        self,
        network: Network,
        dataset: TrainImages,
        config: TrainConfig,
        corruptions: Sequence[Corruption],
        device: str,
        on_progress: Callable[[Progress], None],
        validate: Validate,
        initial: Mapping[str, Array] | None,
        world: World,
    ) -> None:
        self.network, self.config, self.corruptions, self.world = network, config, corruptions, world
        generator = Generator(device).manual_seed(config.seed)
        self.dtype = resolve_dtype(config.precision, device)
        halves = ((layers, half_weights(half, initial) if initial else None) for half, layers in network.halves())
        self.encoder, self.decoder = (build_module(layers, weights).to(device) for layers, weights in halves)
        if not initial:
            init_weights(network, self.encoder, self.decoder, split_pairs(dataset.init_images(), network)[0], generator)
        self.model = nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})
        self.optimizer = Optimizer(self.model, self.dtype, config.betas, world)
        self.random = TorchRandom(generator if world.size == 1 else Generator(device))
        self.likelihood = losses.make_likelihood(config.likelihood, config.sigma, network.outputs_pixels)
        self.loader = DataLoader(dataset, config.batch_size, config.epochs, generator, world)
        self.logger = MetricLogger(config, self.likelihood, self.loader, on_progress, world)
        self.validate = validate
        self.best_epoch, self.best = 1, self.snapshot()
        self.interrupted = self.stops = False

    def train_step(self, batch: Tensor) -> None:
        """Update the weights with one batch, (N, H, W, C), or of pairs, (N, H, W, 2 C), 0 to 255."""
        if self.world.size > 1:
            self.random.generator.manual_seed(self.world.noise_seed(self.config.seed, self.loader.step))
        if self.config.shift:
            batch = shift_images(batch, self.config.shift, self.random.generator)
        images = batch.float().mul_(1 / 255)
        if self.config.binarize:
            images = self.random.binarize(images)
        clean, given = split_pairs(images, self.network)
        corrupted = apply_corruptions(self.corruptions, given, self.random).to(self.dtype)
        output = losses.forward(
            self.encoder, self.decoder[:-1], corrupted, self.network.latent_dim, self.random.normal, self.config.samples
        )
        target = losses.repeat(clean, len(output.logits) // len(clean))
        self.likelihood.update(output.logits.detach(), target, self.world)
        self.logger.log(output, target)
        BACKWARD[self.config.objective](self.likelihood, output, target, get_beta(self.config, self.loader))
        optimizer = self.optimizer
        if self.world.size > 1:
            optimizer.gradient.mul_(len(batch) / self.config.batch_size)
            optimizer.stop_requests.fill_(self.interrupted)
        # At the end of the schedule, the last step, or the only one, would change nothing.
        optimizer.step(get_lr(self.config, min(self.loader.step, self.loader.steps - 0.5) / self.loader.steps))
        if batch.device.type == "cpu" or self.loader.step % LOG_EVERY == 0:  # reading a value synchronizes the GPU
            self.stops = bool(optimizer.stop_requests > 0)
        if self.loader.ends_epoch:
            self.end_epoch()

    def end_epoch(self) -> None:
        """Validate, and keep the weights if no epoch was better."""
        self.logger.end_epoch({name: values.mean().item() for name, values in self.validate_now().items()})
        epochs = self.logger.epochs
        if mean_error(epochs[-1]) <= mean_error(epochs[self.best_epoch - 1]):
            self.best_epoch, self.best = len(epochs), self.snapshot()

    def validate_now(self) -> Metrics:
        """The metrics of held-out images."""
        return self.validate(self.weights(), self.likelihood)

    def snapshot(self) -> Snapshot:
        """A copy of what has been learned."""
        return Snapshot(self.optimizer.weights.clone(), self.likelihood.state())

    def restore(self, snapshot: Snapshot) -> None:
        """Restore a snapshot."""
        self.optimizer.weights.copy_(snapshot.weights)
        self.likelihood.load_state(snapshot.likelihood)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights, named as in `Network.weight_shapes`."""
        return {name: tensor.cpu().numpy() for name, tensor in self.optimizer.named_weights().items()}

    def state_dict(self) -> TrainState:
        """Everything that the next steps depend on.

        Raises:
            VaectlError: a weight is NaN or infinite.
        """
        for vector in self.optimizer.state_dict().values():
            self.logger.check_finite(vector.sum().item())
        tensors = self.optimizer.state_dict() | {
            "likelihood": self.likelihood.state(),
            "best_weights": self.best.weights,
            "best_likelihood": self.best.likelihood,
            "logged": torch.stack(self.logger.logged).float() if self.logger.logged else torch.empty(0, 2),
            "rng_state": self.loader.random.get_state(),
            "epoch_rng_state": self.loader.epoch_rng_state,
        }
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return TrainState(self.loader.step, list(self.logger.epochs), arrays)

    def load_state_dict(self, state: TrainState) -> None:
        """Restore what `state_dict` returned.

        Raises:
            VaectlError: a state of another network.
        """
        tensors = {name: torch.from_numpy(array) for name, array in state.tensors.items()}
        try:
            self.optimizer.load_state_dict(tensors, state.step)
        except ValueError as error:
            raise VaectlError(f"the saved state belongs to another network ({error}): start over with --force") from error
        self.likelihood.load_state(tensors["likelihood"])
        self.best_epoch = min(range(len(state.epochs), 0, -1), key=lambda epoch: mean_error(state.epochs[epoch - 1]), default=1)
        self.best = Snapshot(tensors["best_weights"].to(self.optimizer.weights.device), tensors["best_likelihood"])
        self.logger.logged = list(tensors["logged"].to(self.optimizer.weights.device))
        self.logger.epochs = list(state.epochs)
        self.logger.first_step = self.loader.step = state.step
        self.loader.random.set_state(tensors["rng_state"])
        self.loader.epoch_rng_state = tensors["epoch_rng_state"]

    def result(self) -> TrainResult:
        """The result: of the last epoch, or of the best one if that is significantly better.

        Raises:
            VaectlError: a weight is NaN or infinite.
        """
        self.logger.check_finite(self.optimizer.weights.sum().item())
        epoch = len(self.logger.epochs)
        if self.best_epoch < epoch:
            last, at_last = self.snapshot(), self.validate_now()
            self.restore(self.best)
            if is_better(self.validate_now(), at_last):
                epoch = self.best_epoch
            else:
                self.restore(last)
        return TrainResult(self.weights(), self.likelihood.sigma, epoch, self.logger.epochs)


def held_out_error(metrics: Mapping[str, Any], prefix: str = "") -> Any:
    """The error that ranks epochs, per image or averaged: the PSNR of a denoiser, negated, else the loss."""
    return -metrics[f"{prefix}psnr"] if f"{prefix}psnr_before" in metrics else metrics.get(f"{prefix}loss", inf)


def mean_error(epoch: Mapping[str, float]) -> float:
    """The mean error of held-out images after an epoch; infinite if it is NaN, or if there are no such images."""
    error: float = held_out_error(epoch, "held_out_")
    return error if isfinite(error) else inf


def is_better(metrics: Metrics, others: Metrics) -> bool:
    """Whether the mean error is lower by more than two standard errors of the difference."""
    gains = held_out_error(others) - held_out_error(metrics)
    return len(gains) > 1 and bool(gains.mean() > 2 * gains.std(ddof=1) / sqrt(len(gains)))


BACKWARD = {"elbo": losses.backward, "iwae": losses.backward_iwae}


def get_beta(config: TrainConfig, loader: DataLoader) -> float:
    """The weight of the KL in this step: it rises linearly to beta in the first epochs (Sønderby et al. 2016)."""
    return config.beta * min(1.0, loader.step / max(1, config.kl_warmup * loader.steps_per_epoch))


def get_lr(config: TrainConfig, done: float) -> float:
    """The learning rate after a fraction of all steps: linear warm-up to the peak, then decay to 0 by the schedule.

    "cosine" is that of Loshchilov & Hutter (2017), without restarts.
    """
    left = min(1.0, (1 - done) / (1 - config.warmup))
    decay = left if config.schedule == "linear" else 0.5 - 0.5 * cos(pi * left)
    return config.lr * min(done / config.warmup, decay)


def resolve_dtype(precision: str, device: str) -> torch.dtype:
    """The dtype in which the layers compute; "auto" is bfloat16 where the hardware multiplies it faster than float32."""
    if precision == "auto":
        if device.startswith("cuda"):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            fast = device == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        precision = "bf16" if fast else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
