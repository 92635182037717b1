"""Training a model on a data set: `vaectl.train`."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext

import torch

from vaectl.base import processes
from vaectl.base.arrays import Array
from vaectl.base.errors import VaectlError, warn
from vaectl.base.signals import defer_signals
from vaectl.datasets.load import StoredDataset, store_dataset
from vaectl.io import files, remote
from vaectl.models import checkpoint
from vaectl.models.autoencoder import Autoencoder, from_checkpoint
from vaectl.models.checkpoint import Checkpoint
from vaectl.models.device import resolve_device
from vaectl.models.network import split_pairs
from vaectl.training import loop
from vaectl.training.distributed import World, check_equal, join_world
from vaectl.training.log import TrainLog, check_log
from vaectl.training.loop import TrainResult, TrainState
from vaectl.training.losses import Likelihood
from vaectl.training.metrics import Metrics
from vaectl.training.plan import Plan, check_unet, load_start, make_plan, preprocessing
from vaectl.training.progress import Progress
from vaectl.training.result import describe_machine, make_checkpoint, versions
from vaectl.training.resume import StateSaver, saving_state
from vaectl.training.settings import TrainSettings, taking_settings
from vaectl.training.threads import limit_threads
from vaectl.training.validation import Validation

N_LOGGED_IMAGES = 8


@taking_settings(TrainSettings)
def train(settings: TrainSettings) -> Autoencoder:
    """Train an autoencoder.

    `data` is a data set's name, a folder of images, an NPZ or NPY file, an array of images (N, H, W) or (N, H, W, C) with pixels
    in [0, 1] or integers up to 255, or a tuple of training and test images; `noisy` may be arrays too, and an NPZ file holds them
    as x_train_noisy and x_test_noisy. What is None is chosen to suit the model and the data. The same seed, machine and number
    of threads give bit-identical weights.

    Returns:
        The trained model; its card holds the metrics on held-out images.

    Raises:
        UsageError: arguments that are invalid or contradict each other.
        VaectlError: bad data, an existing checkpoint, no such device, or a loss that is NaN or infinite.
    """
    device = resolve_device(settings.device)
    advise_torchrun(settings.device, device)
    with (
        join_world(device) as world,
        open_run(settings, world) as saver,
        limit_threads(saver.resumed_version("number of threads")),
    ):
        with world.failing_together():
            start, settings = load_start(settings)
            check_unet(settings)
        with world.failing_together():
            dataset = world.read_once(lambda: read_data(settings))
            plan = make_plan(settings, dataset, start, saver.resumed_value("shift"), device, world)
            state = saver.start(plan.describe(), versions() | describe_machine(device, world))
        check_equal(world, world.gather(plan.describe()))
        validation = Validation(plan.network, plan.held_out, len(dataset.test) > 0, plan.config, plan.corruptions, device, world)
        trained = make_checkpoint(plan, validation, fit(plan, settings, validation, saver, state))
        if settings.output is not None and not world.rank:
            save_or_rescue(os.fspath(settings.output), trained)
    model = from_checkpoint(trained, settings.device)
    settings.on_end(model, split_pairs(plan.held_out, plan.network)[1])
    return model


@contextmanager
def open_run(settings: TrainSettings, world: World) -> Iterator[StateSaver]:
    """Check the outputs before any work, and read the state to resume from; only the first process writes.

    Raises:
        VaectlError: an output that cannot be written, or what `saving_state` raises.
    """
    output, log = (None if path is None or world.rank else os.fspath(path) for path in (settings.output, settings.log))
    command = settings.resume_command
    with ExitStack() as stack:
        with world.failing_together():
            if output is not None:
                files.check_writable(output)
            state = saving_state(output, command, resume=settings.resume, force=settings.force)
            saver = stack.enter_context(nullcontext(StateSaver(None, command, None)) if world.rank else state)
            if log is not None:
                check_log(log, replace=settings.force or settings.resume)
        saver.resumed = world.gather(saver.resumed)[0]
        yield saver


def read_data(settings: TrainSettings) -> StoredDataset:
    """Read the images of a run and keep them on disk."""
    pairs_in_npz = settings.model == "dae" and not settings.binarize
    return store_dataset(settings.data, preprocessing(settings), settings.on_read, settings.noisy, pairs_in_npz=pairs_in_npz)


def fit(plan: Plan, settings: TrainSettings, validation: Validation, saver: StateSaver, state: TrainState | None) -> TrainResult:
    """Train the network, from `state` if a run is resumed; log each epoch, and save the state now and then.

    A signal waits for the end of the step.
    """
    log = None
    if settings.log is not None and not plan.world.rank:
        log = TrainLog(os.fspath(settings.log), state.epochs if state else [])

    def validate(weights: Mapping[str, Array], likelihood: Likelihood) -> Metrics:
        # At an epoch, not when the best one is chosen.
        if log and validation.held_out and len(log.epochs) < plan.config.epochs:
            shown = plan.held_out[:N_LOGGED_IMAGES]
            log.add_images(validation.evaluator(weights, likelihood).reconstruct(shown), columns=len(shown))
        return validation.validate(weights, likelihood)

    def report(progress: Progress) -> None:
        if log and progress.ends_epoch:
            log.add_epoch(progress.means())
        settings.on_progress(progress)

    with defer_signals(patient=plan.world.size > 1) as interruption, log or nullcontext():
        return loop.train_network(
            plan.network,
            plan.train_images,
            plan.config,
            plan.corruptions,
            plan.device,
            on_progress=report,
            on_step=lambda trainer: saver.on_step(trainer, interruption),
            state=state,
            validate=validate,
            initial=plan.initial,
            world=plan.world,
        )


def save_or_rescue(path: str, trained: Checkpoint) -> None:
    """Write a checkpoint; if the upload fails, into the current folder, because it may have taken hours.

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
    if count > 1 and processes.world_size() == 1:
        warn(f"training on 1 of {count} GPUs: torchrun --nproc-per-node {count} -m vaectl train ... uses all")
