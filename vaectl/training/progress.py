"""How far a training run is, and the losses that it reports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, isfinite, log
from time import perf_counter

import torch
from torch import Tensor

from vaectl.base.errors import VaectlError
from vaectl.training import losses
from vaectl.training.distributed import World
from vaectl.training.loader import DataLoader
from vaectl.training.losses import Likelihood
from vaectl.training.settings import TrainConfig

LOG_EVERY = 10  # steps


@dataclass(frozen=True)
class Progress:
    """How far a training run is. The loss and its parts are means over the epoch so far, in nats per image.

    `held_out` has, at the end of an epoch, the mean metrics of some held-out images: `loss` and `neg_elbo` in nats, `psnr` in dB,
    and with corruptions `psnr_before`, of the corrupted images.
    """

    step: int
    steps: int
    first_step: int  # the step from which an interrupted run was resumed
    epoch: int
    ends_epoch: bool
    config: TrainConfig
    loss: float
    reconstruction: float
    kl: float
    held_out: Mapping[str, float]
    seconds: float  # since `first_step`

    def means(self) -> dict[str, float]:
        """The loss and its parts, and the held-out metrics."""
        losses = {"loss": self.loss, "reconstruction": self.reconstruction, "kl": self.kl}
        return losses | {f"held_out_{name}": value for name, value in self.held_out.items()}


class MetricLogger:
    """Computes the loss every few steps, which training itself does not need, and reports it."""

    def __init__(
        self,
        config: TrainConfig,
        likelihood: Likelihood,
        loader: DataLoader,
        on_progress: Callable[[Progress], None],
        world: World,
    ) -> None:
        self.world = world
        self.config = config
        self.likelihood = likelihood
        self.loader = loader
        self.first_step = 0
        self.on_progress = on_progress
        self.logged: list[Tensor] = []  # reconstruction and KL, in this epoch
        self.epochs: list[dict[str, float]] = []

    @torch.no_grad()
    def log(self, output: losses.Output, target: Tensor) -> None:
        """Log this step if it is due; raises VaectlError if the loss is NaN or infinite.

        For an importance-weighted bound, the reconstruction is the bound without its KL.
        """
        if self.loader.step % LOG_EVERY and not self.loader.ends_epoch:
            return
        kl = output.kl.mean()
        if self.config.objective == "iwae":
            weights = losses.log_weights(self.likelihood, output, target, self.config.beta)
            reconstruction = log(weights.shape[1]) - weights.logsumexp(1).mean() - self.config.beta * kl
        else:
            reconstruction = self.likelihood.nll(output.logits.float(), target.float()).mean()
        self.logged.append(self.world.mean(torch.stack([reconstruction, kl])))
        progress = self.progress({})
        self.check_finite(progress.loss)
        if not self.loader.ends_epoch:
            self.on_progress(progress)

    def end_epoch(self, held_out: Mapping[str, float]) -> None:
        """Report the epoch, with its held-out metrics."""
        progress = self.progress(held_out)
        self.on_progress(progress)
        self.epochs.append(progress.means())
        self.logged.clear()

    def progress(self, held_out: Mapping[str, float]) -> Progress:
        """How far the run is."""
        loader = self.loader
        reconstruction, kl = torch.stack(self.logged).mean(0).tolist()
        loss, epoch = losses.neg_elbo(reconstruction, kl, self.config.beta), ceil(loader.step / loader.steps_per_epoch)
        place = (loader.step, loader.steps, self.first_step, epoch, loader.ends_epoch)
        return Progress(*place, self.config, loss, reconstruction, kl, held_out, perf_counter() - loader.started)

    def check_finite(self, value: float) -> None:
        """Raise a VaectlError if a value is NaN or infinite."""
        if not isfinite(value):
            what = f"the loss is NaN or infinite at step {self.loader.step}: lower --lr (it is {self.config.lr:g})"
            raise self.world.error(VaectlError(what))
