"""Training a model on a data set: `vaectl.train`."""

from __future__ import annotations  # so that help() shows the names of types

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from math import prod
from typing import Any, Literal, cast, get_args

import numpy as np
import torch

from vaectl import __version__, checkpoint, models
from vaectl.autoencoder import Autoencoder, from_checkpoint
from vaectl.checkpoint import Card, Checkpoint
from vaectl.corruption import parse_corruptions
from vaectl.datasets.load import Data, Dataset, ImageStack, OnRead, load_dataset
from vaectl.datasets.samples import Preprocessing
from vaectl.errors import UsageError, warn
from vaectl.io import files
from vaectl.latents import compute_stats
from vaectl.models import MODELS
from vaectl.networks import network as networks
from vaectl.networks.device import resolve_device
from vaectl.networks.network import Network, network_to_json, split_pairs
from vaectl.prior import Mixture
from vaectl.signals import defer_signals
from vaectl.training import loop
from vaectl.training.config import make_config
from vaectl.training.distributed import World, check_equal, join_world
from vaectl.training.loader import ImageDataset, RandomCrops, make_dataset
from vaectl.training.log import TrainLog, check_log
from vaectl.training.loop import Progress, TrainResult
from vaectl.training.losses import Likelihood, make_likelihood
from vaectl.training.metrics import ACTIVE_VARIANCE, Evaluator, Metrics, mean_metrics
from vaectl.training.prior import fit_prior
from vaectl.training.resume import Checkpointer, checkpointing
from vaectl.training.threads import free_threads, read_cpu_times
from vaectl.training.validation import Validation
from vaectl.types import MAX_FLOAT32, Array, UInt8Array

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

N_LOGGED_IMAGES = 8
N_PRIOR_IMAGES = 60_000  # whose latents the prior is fitted to
N_MEMORIZED = 500  # training images that tell whether they are known by heart
MAX_PSNR_GAP = 3.0  # dB: half the error
ON_CARD = ("likelihood", "beta", "corrupt")  # settings that the card has beside those of training


def train(
    model: ModelName,
    data: Data = "mnist",
    *,
    noisy: Data | None = None,
    init_from: str | os.PathLike[str] | None = None,
    latent_dim: int | None = None,
    net: Architecture | None = None,
    hidden: Sequence[int] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit = "crop",
    skip_bad: bool = False,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    beta: float | None = None,
    corrupt: str | Sequence[str] | None = None,
    samples: int = 1,
    objective: Objective = "elbo",
    kl_warmup: int = 0,
    likelihood: LikelihoodName | None = None,
    sigma: float | None = None,
    binarize: bool = False,
    shift: int | None = None,
    precision: Precision = "auto",
    seed: int = 0,
    device: str = "auto",
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
    resume_command: str = "vaectl.train(..., resume=True)",
    log: str | os.PathLike[str] | None = None,
    on_read: OnRead = lambda done, total: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_end: Callable[[Autoencoder, UInt8Array], None] = lambda model, images: None,
) -> Autoencoder:
    """Train an autoencoder.

    Args:
        model: "ae" (plain), "dae" (denoising) or "vae" (variational).
        data: a data set's name, a folder of images, an NPZ or NPY file, an array of images (N, H, W) or (N, H, W, C) with pixels
            in [0, 1] or integers up to 255, or a tuple of training and test images.
        noisy: the noisy partners of the images, for a dae: another folder with files of the same names, or other arrays. An NPZ
            file holds them as x_train_noisy and x_test_noisy.
        init_from: a checkpoint to start from: its network and its weights are trained on.
        latent_dim: D. What is None here and below is chosen to suit the model and the data.
        net: the architecture: "mlp", "conv", or "unet", which has no latent and denoises images of any size.
        hidden: the widths of the hidden layers, halvings or scales.
        size: the side of a square, or height and width, to which images are resized; for a unet, of the crops it learns from.
        channels: 1 for gray, 3 for color.
        fit: how images of another aspect ratio are resized.
        skip_bad: list and skip files that cannot be read.
        epochs, batch_size, lr: lr is the peak learning rate.
        beta: the weight of the KL; above 0 it makes the latent a distribution.
        corrupt: what is done to images, or to their noisy partners, before they are encoded, as in "gaussian:0.25".
        samples: samples of z per image, L in Kingma & Welling, k in Burda et al.
        objective: "elbo", or "iwae", the importance-weighted bound, which is tighter with more samples.
        kl_warmup: epochs in which the weight of the KL rises from 0 to beta.
        likelihood, sigma: of a pixel; sigma, of a Gaussian likelihood, is learned unless given.
        binarize: dynamic binarization: sample each pixel as 0 or 1 at every visit.
        shift: the most pixels by which images are moved at random at every visit; None moves them if there are few.
        precision: the arithmetic of the layers.
        seed: the random seed. The same seed, machine and number of threads give bit-identical weights.
        device: "auto" is the fastest.
        output: the checkpoint to write. While training, its state is saved beside it.
        force: replace an existing checkpoint.
        resume: continue an interrupted run with this `output`, bit-identically.
        resume_command: what messages say to resume an interrupted run.
        log: a folder for the metrics and some reconstructions of each epoch, which TensorBoard shows, and the table epochs.csv.
        on_read: called with the number of images read so far, and of all if it is known.
        on_progress: called every few steps.
        on_end: called with the trained model and images (N, H, W, C) it was evaluated on, the noisy ones of pairs.

    Returns:
        The trained model; its card holds the metrics on held-out images.

    Raises:
        UsageError: arguments that are invalid or contradict each other.
        VaectlError: bad data, an existing checkpoint, no such device, or a loss that is NaN or infinite.
    """
    check_choices(model=model, net=net, fit=fit, likelihood=likelihood, objective=objective, precision=precision)
    height, width = (size, size) if isinstance(size, int) else size or (None, None)
    numbers = {"latent_dim": latent_dim, "height": height, "width": width, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    check_numbers(1e-12, **numbers, samples=samples, sigma=sigma, hidden=min(hidden or [1]))
    check_numbers(0, beta=beta, seed=seed, kl_warmup=kl_warmup, shift=shift)
    if channels not in (None, 1, 3):
        raise UsageError(f"channels={channels!r}: give 1 for gray or 3 for color")
    beta = MODELS[model].beta if beta is None else beta
    if noisy is not None and (model != "dae" or binarize):
        raise UsageError("noisy images are for a dae that is not binarized: use train dae --noisy")
    specs = () if noisy is not None else MODELS[model].corrupt
    if corrupt is not None:
        specs = (corrupt,) if isinstance(corrupt, str) else tuple(corrupt)
    sides: Sequence[int] | None = (height, width) if height and width else None
    if (objective == "iwae" or kl_warmup) and not beta:
        raise UsageError("--objective iwae and --kl-warmup are for models with a KL: use a vae, or add --beta")
    if objective == "iwae" and samples < 2:
        raise UsageError("one sample is not importance-weighted: add --samples, as in --objective iwae --samples 5")
    cpu_times = read_cpu_times()
    torch_device = resolve_device(device)
    with join_world(torch_device) as world, ExitStack() as stack:
        with world.agreement():
            start = load_start(os.fspath(init_from), variational=beta > 0) if init_from is not None else None
            if start:
                card = start.card
                own = (networks.architecture(card.network), card.network.latent_dim, card.network.image_shape[2])
                if (
                    sides
                    or hidden
                    or any(given not in (None, value) for given, value in zip((net, latent_dim, channels), own, strict=True))
                ):
                    raise UsageError(
                        "--from takes the network of its FILE: leave out --net, --latent, --hidden, --size and --gray"
                    )
                net, likelihood = own[0], likelihood or cast(LikelihoodName, card.likelihood)
                (*sides, channels), fit = card.network.image_shape, cast(Fit, card.fit)
            is_unet = net == "unet"  # which learns from crops of photos
            corruptions = parse_corruptions(specs, on_crops=is_unet)
            if is_unet and (latent_dim or beta or likelihood == "bernoulli" or (not corruptions and noisy is None)):
                raise UsageError("a unet has no latent, and a Gaussian likelihood: use it for a dae, as in train dae --net unet")
            path = None if output is None or world.rank else os.fspath(output)
            if path is not None:
                files.check_writable(path)
            log_folder = None if log is None or world.rank else os.fspath(log)
            checkpointer = stack.enter_context(
                checkpointing(path, resume_command, resume=resume, force=force)
                if world.rank == 0
                else nullcontext(Checkpointer(None, resume_command, None))
            )
            if log_folder is not None:
                check_log(log_folder, replace=force or resume)
        if world.size == 1:
            advise_torchrun(device, torch_device)
        checkpointer.resumed = world.broadcast(checkpointer.resumed)
        if torch_device == "cpu" and world.size == 1:
            stack.enter_context(free_threads(cpu_times, checkpointer.resumed_version("number of threads")))
        with world.agreement():
            # The data, and the network they suggest.
            resized = (sides[0], sides[1]) if sides and not is_unet else None
            preprocessing = Preprocessing(resized, channels, fit, keep_size=is_unet, skip_bad=skip_bad)
            dataset = load_dataset(data, preprocessing, on_read, noisy, pairs_in_npz=model == "dae" and not binarize)
            if dataset.noisy and corrupt is None:
                specs, corruptions = (), ()
            image_shape = (*(sides or models.UNET_CROP), dataset.image_shape[2]) if is_unet else dataset.image_shape
            architecture = net or models.default_architecture(image_shape)
            try:
                network = (
                    start.card.network
                    if start
                    else models.build_network(model, architecture, image_shape, latent_dim, hidden, variational=beta > 0)
                )
            except ValueError as error:
                raise UsageError(f"these sizes do not make a network: {error}: change --size, --latent or --hidden") from error
            likelihood_name = likelihood or models.default_likelihood(architecture, image_shape)
            if sigma and likelihood_name != "gaussian":
                raise UsageError("sigma is for a Gaussian likelihood: add --likelihood gaussian")
            warn_of_surprises(
                network, dataset, denoises=bool(corruptions or dataset.noisy) and net is None and architecture == "conv"
            )

            # The configuration of the run, which a resumed run must share.
            train_images = make_dataset(dataset.train, image_shape, torch_device)
            held_out = make_dataset(dataset.held_out, image_shape, "cpu").evaluation_images()
            config = make_config(
                architecture,
                len(train_images),
                max_fan_in=network.max_fan_in,
                shorter_side=min(image_shape[:2]),
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                beta=beta,
                corrupt=specs,
                likelihood=likelihood_name,
                sigma=sigma,
                samples=samples,
                objective=objective,
                kl_warmup=kl_warmup,
                binarize=binarize,
                shift=checkpointer.resumed_value("shift") if shift is None else shift,
                precision=precision,
                seed=seed,
            )
            if config.batch_size < world.size:
                raise UsageError(f"a batch of {config.batch_size} cannot be divided among {world.size} processes: start fewer")
            run_config = {
                "data": dataset.describe(),
                "model": model,
                "network": network_to_json(network),
                "fit": fit,
                "from": os.fspath(init_from) if init_from is not None else None,
                **asdict(config),
                "device": torch_device if world.size == 1 else torch_device.partition(":")[0],
                "precision": str(loop.resolve_dtype(precision, torch_device)).removeprefix("torch."),
            }
            state = checkpointer.start(run_config, versions() | describe_machine(torch_device, world))

        check_equal(world, world.gather(run_config))

        train_log = TrainLog(log_folder, state.epochs if state else []) if log_folder is not None else None
        validation = Validation(network, held_out, len(dataset.test) > 0, config, corruptions, torch_device, world)

        # A signal waits for the end of the step.
        with defer_signals(patient=world.size > 1) as interruption, train_log or nullcontext():

            def on_step(trainer: loop.Trainer) -> None:
                checkpointer.on_step(trainer, interruption)

            def validate(weights: Mapping[str, Array], likelihood: Likelihood) -> Metrics:
                # At an epoch, not when the best one is chosen.
                if train_log and validation.held_out and len(train_log.epochs) < config.epochs:
                    shown = held_out[:N_LOGGED_IMAGES]
                    train_log.add_images(validation.evaluator(weights, likelihood).reconstruct(shown), columns=len(shown))
                return validation.validate(weights, likelihood)

            def report(progress: Progress) -> None:
                if train_log and progress.ends_epoch:
                    train_log.add_epoch(progress.means())
                on_progress(progress)

            result = loop.train_network(
                network,
                train_images,
                config,
                corruptions,
                torch_device,
                report,
                on_step,
                state,
                validate,
                start.weights if start else None,
                world,
            )
        trained = make_checkpoint(model, fit, skip_bad, dataset, train_images, validation, result)
        if path is not None:
            checkpoint.save(path, trained)
    autoencoder = from_checkpoint(trained, device)
    on_end(autoencoder, split_pairs(held_out, network)[1])
    return autoencoder


def make_checkpoint(
    model: str,
    fit: str,
    skip_bad: bool,
    dataset: Dataset,
    train_images: ImageDataset | RandomCrops,
    validation: Validation,
    result: TrainResult,
) -> Checkpoint:
    """The checkpoint of a run: the weights, the prior of their latents, and how good they are on images that were held out."""
    network, config, held_out = validation.network, validation.config, validation.images
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
        model=model,
        network=network,
        fit=fit,
        likelihood=config.likelihood,
        sigma=likelihood.sigma,
        beta=config.beta,
        corrupt=list(config.corrupt),
        latent_stats=compute_stats(latents),
        training={name: value for name, value in asdict(config).items() if name not in ON_CARD} | {"betas": [*config.betas]},
        data=dataset.describe() | {"skip_bad": skip_bad},
        metrics={"split": dataset.held_out_split, "images": len(held_out), "epoch": result.epoch, **metrics},
        epochs=result.epochs,
        versions=versions(),
    )
    return Checkpoint(card, result.weights, prior)


def advise_torchrun(wanted: str, device: str) -> None:
    """Say how to use all GPUs of this machine, if it has several and none was named."""
    count = torch.cuda.device_count() if device.startswith("cuda") and wanted in ("auto", "cuda") else 1
    if count > 1:
        warn(f"training on 1 of {count} GPUs: torchrun --nproc-per-node {count} -m vaectl train ... uses all")


def load_start(path: str, *, variational: bool) -> Checkpoint:
    """The checkpoint that training goes on from.

    Raises:
        UsageError: it is of another kind of model.
        VaectlError: it cannot be read.
    """
    start = checkpoint.load(path)
    if start.card.network.variational != variational:
        raise UsageError(f"{path!r} is of {start.card.model!r}, whose encoder has other outputs: train it as one")
    return start


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


def warn_of_surprises(network: Network, dataset: Dataset, *, denoises: bool) -> None:
    """Warn of what users rarely want."""
    height, width, _ = network.image_shape
    if network.latent_dim > prod(network.image_shape):
        warn(f"{network.latent_dim} latent dimensions are more than the {prod(network.image_shape)} values of an image")
    if not len(dataset.test):
        warn("too few images to hold any out: the metrics will be those of the training images")
    if denoises:
        warn(f"this denoiser works at {height} x {width}: --net unet denoises photos at their own size")


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
        warn(f"the result is worse than its input: denoised images have {found}: train longer (--epochs)")


def warn_if_memorized(evaluator: Evaluator, train: ImageStack, held_out_psnr: float) -> None:
    """Warn of a network that reconstructs the images it learned from far better than others."""
    step = max(1, len(train) // N_MEMORIZED)
    psnr = mean_metrics(evaluator, np.asarray(train[::step]))["psnr"]
    if psnr > held_out_psnr + MAX_PSNR_GAP:
        found = f"images it learned from at {psnr:.1f} dB, held-out ones at {held_out_psnr:.1f} dB"
        warn(f"memorized: it reconstructs {found}: use more images, a larger --shift, or fewer dimensions (--latent)")


def versions() -> dict[str, Any]:
    """The versions of everything that the bits of the weights depend on."""
    return {"vaectl": __version__, "python": platform.python_version(), **{name: version(name) for name in ("numpy", "torch")}}


def describe_machine(device: str, world: World) -> dict[str, str | int]:
    """What else the bits of the weights depend on."""
    processor = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    numbers = {"number of threads": torch.get_num_threads(), "number of processes": world.size}
    return {"processor": processor, **numbers}
