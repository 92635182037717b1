"""The checkpoint of a training run, with the prior of its latents and its metrics on held-out images."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from vaectl import __version__
from vaectl.base.errors import warn
from vaectl.datasets.load import Dataset, ImageStack
from vaectl.models.checkpoint import Card, Checkpoint
from vaectl.models.latents import compute_stats
from vaectl.models.mixture import Mixture
from vaectl.models.network import split_pairs
from vaectl.training.distributed import World
from vaectl.training.fit_mixture import fit_prior
from vaectl.training.loop import TrainResult
from vaectl.training.losses import make_likelihood
from vaectl.training.metrics import ACTIVE_VARIANCE, Evaluator, mean_metrics
from vaectl.training.plan import Plan
from vaectl.training.validation import Validation

N_PRIOR_IMAGES = 60_000  # whose latents the prior is fitted to
N_MEMORIZED = 500  # training images that show whether the model has memorized them
MAX_PSNR_GAP = 3.0  # dB: half the error
ON_CARD = ("likelihood", "beta", "corrupt")  # settings that the card has beside those of training


def make_checkpoint(plan: Plan, validation: Validation, result: TrainResult) -> Checkpoint:
    """The checkpoint of a run: the weights, the prior of their latents, and how good they are on images that were held out."""
    network, config, dataset, train_images, held_out = plan.network, plan.config, plan.dataset, plan.train_images, plan.held_out
    likelihood = make_likelihood(config.likelihood, result.sigma, network.outputs_pixels)
    likelihood = validation.calibrate(result.weights, likelihood, held_out)
    evaluator = validation.evaluator(result.weights, likelihood)
    latents = evaluator.encode(split_pairs(train_images.init_images(), network)[0])[:, : network.latent_dim]
    images_seen = config.epochs * len(train_images) * config.samples
    training_cost = images_seen * sum(array.size for array in result.weights.values())
    prior = learn_prior(evaluator, dataset, config.seed, training_cost) if network.has_latent else None
    evaluator = validation.evaluator(result.weights, likelihood, prior=prior)
    metrics = {name: float(values.mean()) for name, values in validation.measure(evaluator, held_out).items()}
    warn_if_worse(metrics)
    if validation.held_out and network.has_latent:
        warn_if_memorized(evaluator, dataset.train, metrics["psnr"])
    card = Card(
        model=plan.model,
        network=network,
        fit=plan.fit,
        likelihood=config.likelihood,
        sigma=likelihood.sigma,
        beta=config.beta,
        corrupt=list(config.corrupt),
        latent_stats=compute_stats(latents),
        training={name: value for name, value in asdict(config).items() if name not in ON_CARD} | {"betas": [*config.betas]},
        data=dataset.describe() | {"skip_bad": plan.skip_bad},
        metrics={"split": dataset.held_out_split, "images": len(held_out), "epoch": result.epoch, **metrics},
        epochs=result.epochs,
        versions=versions(),
    )
    return Checkpoint(card, result.weights, prior)


def learn_prior(evaluator: Evaluator, dataset: Dataset, seed: int, training_cost: float) -> Mixture | None:
    """The prior of the latents of the training images, or of many evenly spaced; None if there are too few.

    A dimension that the encoder of a VAE does not use stays N(0, 1) (Burda et al. 2016, section 4.2).
    """
    step = max(1, len(dataset.train) // N_PRIOR_IMAGES)
    labels = dataset.train_labels[::step]
    encoded = evaluator.encode(split_pairs(np.asarray(dataset.train[::step]), evaluator.network)[0])
    if not evaluator.network.variational:
        return fit_prior(encoded, seed, None, labels, training_cost)
    mu, logvar = np.split(encoded, 2, axis=1)
    epsilon = np.random.default_rng(seed).standard_normal(mu.shape, np.float32)
    return fit_prior(mu + np.exp(0.5 * logvar) * epsilon, seed, mu.var(0) > ACTIVE_VARIANCE, labels, training_cost)


def warn_if_worse(metrics: Mapping[str, float]) -> None:
    """Warn of a denoiser whose results are worse than what it was given."""
    if metrics["mse"] > metrics.get("mse_before", np.inf):
        found = f"{metrics['psnr']:.2f} dB, the corrupted ones {metrics['psnr_before']:.2f} dB"
        warn(f"denoised images are worse than corrupted ones: {found}: train longer (--epochs)")


def warn_if_memorized(evaluator: Evaluator, train: ImageStack, held_out_psnr: float) -> None:
    """Warn of a network that reconstructs the images it learned from far better than others."""
    step = max(1, len(train) // N_MEMORIZED)
    psnr = mean_metrics(evaluator, np.asarray(train[::step]))["psnr"]
    if psnr > held_out_psnr + MAX_PSNR_GAP:
        found = f"images it learned from at {psnr:.1f} dB, held-out ones at {held_out_psnr:.1f} dB"
        advice = "use more images, a larger --shift, or fewer dimensions (--latent)"
        warn(f"the model has memorized its images: it reconstructs {found}: {advice}")


def versions() -> dict[str, Any]:
    """The versions of everything that the bits of the weights depend on."""
    return {"vaectl": __version__, "python": platform.python_version(), **{name: version(name) for name in ("numpy", "torch")}}


def describe_machine(device: str, world: World) -> dict[str, str | int]:
    """What else the bits of the weights depend on."""
    processor = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    numbers = {"number of threads": torch.get_num_threads(), "number of processes": world.size}
    return {"processor": processor, **numbers}
