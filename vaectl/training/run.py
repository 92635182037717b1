"""Training a model on a data set: `vaectl.train`."""

from __future__ import annotations  # so that help() shows the names of types

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from math import prod
from typing import cast

import torch

from vaectl.base.arrays import Array, UInt8Array
from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.signals import defer_signals
from vaectl.datasets.load import Data, Dataset, OnRead, StoredDataset, store_dataset
from vaectl.images.corruption import parse_corruptions
from vaectl.io import files, remote
from vaectl.io.inputs import read_image_file
from vaectl.io.sources import SkipPolicy
from vaectl.models import checkpoint, presets
from vaectl.models import network as networks
from vaectl.models.autoencoder import Autoencoder, from_checkpoint
from vaectl.models.checkpoint import Checkpoint
from vaectl.models.device import resolve_device
from vaectl.models.network import Network, network_to_json, split_pairs
from vaectl.models.presets import MODELS
from vaectl.training import loop
from vaectl.training.arguments import (
    Architecture,
    Fit,
    LikelihoodName,
    ModelName,
    NetworkOptions,
    Objective,
    Precision,
    check_choices,
    check_numbers,
    check_objective,
)
from vaectl.training.config import make_config
from vaectl.training.distributed import check_equal, join_world
from vaectl.training.loader import TrainImages, make_dataset
from vaectl.training.log import TrainLog, check_log
from vaectl.training.losses import Likelihood
from vaectl.training.metrics import Metrics
from vaectl.training.progress import Progress
from vaectl.training.result import describe_machine, make_checkpoint, versions
from vaectl.training.resume import Checkpointer, checkpointing
from vaectl.training.streaming import StreamedImages, count_epoch, open_stream
from vaectl.training.threads import free_threads, read_cpu_times
from vaectl.training.validation import Validation

N_LOGGED_IMAGES = 8


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
    stream: bool = False,
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
        stream: learn from tar files while they are read, and store only a sample.
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
    wanted = NetworkOptions(net, latent_dim, hidden, (height, width) if height and width else None, channels, fit)
    beta = MODELS[model].beta if beta is None else beta
    check_objective(objective, samples, kl_warmup, beta)
    if noisy is not None and (model != "dae" or binarize):
        raise UsageError("noisy images are for a dae that is not binarized: use train dae --noisy")
    shards = open_stream(data, is_unet=wanted.is_unet) if stream else None
    specs = () if noisy is not None else MODELS[model].corrupt
    if corrupt is not None:
        specs = (corrupt,) if isinstance(corrupt, str) else tuple(corrupt)
    cpu_times = read_cpu_times()
    torch_device = resolve_device(device)
    with join_world(torch_device) as world, ExitStack() as stack:
        with world.agreement():
            start = load_start(os.fspath(init_from), variational=beta > 0) if init_from is not None else None
            if start:
                wanted = wanted.of_card(start.card)
                likelihood = likelihood or cast(LikelihoodName, start.card.likelihood)
            corruptions = parse_corruptions(specs, read_image_file, on_crops=wanted.is_unet)
            if wanted.is_unet and (latent_dim or beta or likelihood == "bernoulli" or (not corruptions and noisy is None)):
                raise UsageError("a unet has no latent, and a Gaussian likelihood: use it for a dae, as in train dae --net unet")
            path, log_folder = (None if name is None or world.rank else os.fspath(name) for name in (output, log))
            if path is not None:
                files.check_writable(path)
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
            pairs_in_npz = model == "dae" and not binarize
            preprocessing = wanted.preprocessing(skip_bad=skip_bad)

            def read() -> tuple[StoredDataset, int]:
                stored = store_dataset(data, preprocessing, on_read, noisy, pairs_in_npz=pairs_in_npz, stream=stream)
                return stored, count_epoch(shards, stored) if shards else 0

            stored, epoch_length = world.read_once(read)
            dataset = stored.open()
            if dataset.noisy and corrupt is None:
                specs, corruptions = (), ()
            image_shape = wanted.image_shape(dataset)
            network = start.card.network if start else wanted.build(model, image_shape, variational=beta > 0)
            architecture = networks.architecture(network)
            likelihood_name = likelihood or presets.default_likelihood(architecture, image_shape)
            if sigma and likelihood_name != "gaussian":
                raise UsageError("sigma is for a Gaussian likelihood: add --likelihood gaussian")
            denoises = bool(corruptions or dataset.noisy)
            warn_of_surprises(network, dataset, denoises=denoises and wanted.net is None and architecture == "conv")

            # The configuration of the run, which a resumed run must share.
            if shards:
                policy = SkipPolicy(skip_bad)
                train_images: TrainImages = StreamedImages(shards, dataset.train, wanted.fit, policy, epoch_length)
            else:
                train_images = make_dataset(dataset.train, image_shape, torch_device)
            held_out = make_dataset(dataset.held_out, image_shape, "cpu").evaluation_images()
            config = make_config(
                architecture,
                len(train_images),
                max_fan_in=network.max_fan_in,
                image_shape=image_shape,
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
            if config.kl_warmup >= config.epochs:
                warn(f"the KL never counts in full: --kl-warmup {kl_warmup} is not less than --epochs {config.epochs}")
            if config.batch_size < world.size:
                raise UsageError(f"a batch of {config.batch_size} cannot be divided among {world.size} processes: start fewer")
            run_config = {
                "data": dataset.describe(),
                "model": model,
                "network": network_to_json(network),
                "fit": wanted.fit,
                "from": os.fspath(init_from) if init_from is not None else None,
                **asdict(config),
                "device": torch_device if world.size == 1 else torch_device.partition(":")[0],
                "precision": str(loop.resolve_dtype(precision, torch_device)).removeprefix("torch."),
            }
            state = checkpointer.start(run_config, versions() | describe_machine(torch_device, world))

        check_equal(world, world.gather(run_config))
        if shards and state and state.step % (len(train_images) // config.batch_size):
            warn("resuming: the files of the interrupted epoch are read again, up to where it was")

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
        trained = make_checkpoint(model, wanted.fit, skip_bad, dataset, train_images, validation, result)
        if path is not None:
            save_or_rescue(path, trained)
    autoencoder = from_checkpoint(trained, device)
    on_end(autoencoder, split_pairs(held_out, network)[1])
    return autoencoder


def save_or_rescue(path: str, trained: Checkpoint) -> None:
    """Write a checkpoint; one that cannot be uploaded goes into this folder, for hours may have gone into it.

    Raises:
        VaectlError: it could not be written to `path`.
    """
    try:
        checkpoint.save(path, trained)
    except VaectlError as error:
        if not remote.is_url(path):
            raise
        with tempfile.NamedTemporaryFile(dir=os.curdir, suffix=f"-{os.path.basename(path)}", delete=False) as file:
            checkpoint.save(file.name, trained)
        raise VaectlError(f"{error.what}: the checkpoint is in {os.path.basename(file.name)!r}", error.advice) from error


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
        model = start.card.model
        raise UsageError(f"{path!r} is a model of {model!r}, whose encoder has other outputs: train {model} --from {path}")
    return start


def warn_of_surprises(network: Network, dataset: Dataset, *, denoises: bool) -> None:
    """Warn of what users rarely want."""
    height, width, _ = network.image_shape
    if network.latent_dim > prod(network.image_shape):
        warn(f"{network.latent_dim} latent dimensions are more than the {prod(network.image_shape)} values of an image")
    if not len(dataset.test):
        warn("too few images to hold any out: the metrics will be those of the training images")
    if denoises:
        warn(f"this denoiser works at {height} x {width}: --net unet denoises photos at their own size")
