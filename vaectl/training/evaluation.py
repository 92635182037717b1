"""Evaluating a model on a data set: `vaectl.evaluate`."""

from __future__ import annotations  # so that help() shows the names of types

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vaectl import checkpoint
from vaectl.autoencoder import Autoencoder
from vaectl.checkpoint import Card
from vaectl.corruption import parse_corruptions
from vaectl.datasets.catalogue import NAMES, SPLITS, parse_reference
from vaectl.datasets.load import IN_MEMORY, Data, Preprocessing, load_dataset
from vaectl.datasets.named import open_sources
from vaectl.errors import UsageError, VaectlError
from vaectl.io import inputs
from vaectl.networks.device import resolve_device
from vaectl.training.losses import make_likelihood
from vaectl.training.metrics import AverageMeter, EvalConfig, Evaluator, Metrics, RunningVariance
from vaectl.types import UInt8Array

# Images (N, H, W, C), 0 to 255, and their names.
NamedBatch = tuple[Sequence[str], UInt8Array]

BATCH_SIZE = 500
REDUCTION = "nats: sums over pixels and latent dimensions, means over images"


@dataclass(frozen=True)
class Evaluation:
    """The mean metrics of a model, and how they were computed.

    `metrics`: `neg_elbo` = `reconstruction` + `kl` and `nll` in nats per image, `mse` on pixels in [0, 1], `psnr` in dB, `ssim`;
    with corruptions also `mse_before`, `psnr_before`, `ssim_before` of the corrupted images.
    """

    checkpoint: str | None
    model: str
    data: str
    split: str
    images: int
    binarization: str
    likelihood: str
    samples: int | None
    corrupt: Sequence[str]
    reduction: str
    metrics: Mapping[str, float]
    active_units: int
    latent_dim: int


def evaluate(
    model: str | os.PathLike[str] | Autoencoder,
    data: Data | None = None,
    *,
    split: str = "test",
    samples: int = 1000,
    binarize: bool | None = None,
    corrupt: Sequence[str] | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_batch: Callable[[Sequence[str], Metrics, int], None] = lambda names, metrics, total: None,
) -> Evaluation:
    """Evaluate a model: -ELBO and its parts, NLL by importance sampling, MSE, PSNR, SSIM and active units.

    Args:
        model: a checkpoint's path, or a model.
        data: as for `vaectl.train`; None is the data it was trained on. An array or a folder is evaluated whole, and so is one
            split or image of a data set ("mnist:train").
        split: "test" or "train".
        samples: K of importance sampling; 0 skips the NLL.
        binarize: sample each pixel once as 0 or 1; None does as in training.
        corrupt: corruptions as in "gaussian:0.25"; None does as in training.
        skip_bad: list and skip files that cannot be read; files skipped in training are skipped again.
        on_batch: called with the names and the metrics of a few images at a time, and with the number of all images.

    Raises:
        UsageError: no such split.
        VaectlError: no such data, no images in that split, or no such device.
    """
    if split not in SPLITS or samples < 0:
        raise UsageError(f"split={split!r}, samples={samples}: choose a split from {', '.join(SPLITS)}, and 0 or more samples")
    found = model.checkpoint if isinstance(model, Autoencoder) else checkpoint.load(os.fspath(model))
    card = found.card
    binarize = bool(card.training.get("binarize")) if binarize is None else binarize
    corrupt = list(card.corrupt) if corrupt is None else corrupt
    corruptions = parse_corruptions(corrupt, on_crops=not card.network.has_latent)
    skip_bad = skip_bad or (data is None and bool(card.data.get("skip_bad")))
    whole = is_evaluated_whole(data)
    if data is None:
        data = str(card.data.get("name"))
        if data == IN_MEMORY:
            raise VaectlError("the model was trained on arrays in memory: give data to evaluate it on (--data)")
    if whole and not isinstance(data, str | os.PathLike):
        batches, total = split_batches((np.asarray(data), np.asarray(data)), "test", card, skip_bad=skip_bad)
    elif whole:
        batches, total = whole_batches(str(data), card, skip_bad=skip_bad)
    else:
        batches, total = split_batches(data, split, card, skip_bad=skip_bad)
    likelihood = make_likelihood(card.likelihood, card.sigma, card.network.outputs_pixels)
    evaluator = Evaluator(card.network, found.weights, likelihood, resolve_device(device))
    meter, variance = AverageMeter(), RunningVariance()
    names: list[str] = []

    def stacks() -> Iterator[UInt8Array]:
        for batch_names, stack in batches:
            names.extend(batch_names)
            variance.update(evaluator.latents(stack))
            yield stack

    for metrics in evaluator.iterate_metrics(stacks(), EvalConfig(corruptions, samples, binarize, ssim=True, seed=seed)):
        meter.update(metrics)
        count = len(metrics["mse"])
        on_batch(names[:count], metrics, total)
        del names[:count]
    return Evaluation(
        checkpoint=None if isinstance(model, Autoencoder) else os.fspath(model),
        model=card.model,
        data=str(data) if isinstance(data, str | os.PathLike) else IN_MEMORY,
        split="whole" if whole else split,
        images=meter.count,
        binarization="each pixel sampled once" if binarize else "none, gray values are probabilities",
        likelihood=card.likelihood,
        samples=samples if "nll" in meter.sums else None,
        corrupt=corrupt,
        reduction=REDUCTION,
        metrics=meter.means(),
        active_units=variance.active_units(),
        latent_dim=card.network.latent_dim,
    )


def is_evaluated_whole(data: Data | None) -> bool:
    """Whether data have no splits to choose from: an array, a folder given explicitly, or one split or image of a data set."""
    if not isinstance(data, str | os.PathLike):
        return data is not None and not isinstance(data, tuple)
    name = os.fspath(data)
    return os.path.isdir(name) or (not os.path.exists(name) and name not in NAMES and parse_reference(name) is not None)


def whole_batches(path: str, card: Card, *, skip_bad: bool) -> tuple[Iterator[NamedBatch], int]:
    """All images of a source, as the model takes them, and about how many there are."""
    sources = open_sources([path], "")
    channels = card.network.image_shape[2]
    if card.network.has_latent:
        found = inputs.read_images(sources, card.resize_spec, skip_bad=skip_bad)
    else:
        found = inputs.read_photos(sources, channels, skip_bad=skip_bad)
    batches = ((batch.names, np.rint(batch.arrays[..., :channels] * 255).astype(np.uint8)) for batch in found)
    return batches, inputs.count_inputs(sources) or 0


def split_batches(data: Data, split: str, card: Card, *, skip_bad: bool) -> tuple[Iterator[NamedBatch], int]:
    """The images of a data set's split, as the model takes them, and their number.

    Raises:
        VaectlError: no such data, or no images in that split.
    """
    height, width, channels = card.network.image_shape
    size = (height, width) if card.network.has_latent else None
    dataset = load_dataset(data, Preprocessing(size, channels, card.fit, keep_size=size is None, skip_bad=skip_bad))
    stack = dataset.test if split == "test" else dataset.train
    if not len(stack):
        raise VaectlError(f"{dataset.name!r} has no {split} images: try --split train")
    names = [f"{split}-{index:05d}" for index in range(len(stack))]
    if not isinstance(stack, np.ndarray):
        return (([name], image[np.newaxis]) for name, image in zip(names, stack, strict=True)), len(stack)
    starts = range(0, len(stack), BATCH_SIZE)
    return ((names[start : start + BATCH_SIZE], stack[start : start + BATCH_SIZE]) for start in starts), len(stack)
