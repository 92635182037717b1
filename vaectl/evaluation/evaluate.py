"""Evaluating a model on a data set: `vaectl.evaluate`."""

from __future__ import annotations  # so that help() shows the names of types

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeGuard, cast

import numpy as np

from vaectl.base.arrays import UInt8Array
from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.processes import rank, world_size
from vaectl.datasets.array_files import IN_MEMORY, IN_NPZ
from vaectl.datasets.catalogue import SPLITS
from vaectl.datasets.load import Data, Dataset, check_learned_data, load_dataset
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.datasets.pairs import match_pairs
from vaectl.datasets.samples import Preprocessing
from vaectl.images.corruption import parse_corruptions
from vaectl.images.resize import to_uint8
from vaectl.io.inputs import Batch, read_image_file
from vaectl.io.sources import Folder, Shard, SkipPolicy, count_inputs
from vaectl.io.tars import Shards
from vaectl.models.autoencoder import Autoencoder, Images, as_sources, load
from vaectl.models.device import resolve_device
from vaectl.training.distributed import join_world
from vaectl.training.losses import make_likelihood
from vaectl.training.metrics import AverageMeter, EvalConfig, Evaluator, Metrics, RunningVariance


class NamedBatch(NamedTuple):
    """Images (N, H, W, C), 0 to 255, their names, and their labels, if they have any.

    `learned_split` is "train" or "test", which they were in when the model was trained on them; None if it was not.
    """

    names: Sequence[str]
    images: UInt8Array
    labels: Sequence[str | None] = ()
    learned_split: str | None = None


# Called with names, metrics, the number of all images if it is known, and `learned_split` as in `NamedBatch`.
OnBatch = Callable[[Sequence[str], Metrics, int | None, str | None], None]

BATCH_SIZE = 500
REDUCTION = "nats: sums over pixels and latent dimensions, means over images"


@dataclass(frozen=True)
class Evaluation:
    """The mean metrics of a model, and how they were computed.

    `metrics`: `neg_elbo` = `reconstruction` + `kl` and `nll` in nats per image, `mse` on pixels in [0, 1], `psnr` in dB, `ssim`;
    with corruptions also `mse_before`, `psnr_before`, `ssim_before` of the corrupted images. `neg_elbo_learned` and `nll_learned`
    are under the learned prior. `label_accuracy` is the fraction of images whose label is that of the components of the learned
    prior nearest to their latents, among images with a label that the prior knows; None if there are none.
    """

    checkpoint: str | None
    model: str
    data: str
    split: str
    shard: str | None
    images: int
    binarization: str
    likelihood: str
    samples: int | None
    corrupt: Sequence[str]
    reduction: str
    metrics: Mapping[str, float]
    active_units: int
    latent_dim: int
    label_accuracy: float | None


def evaluate(
    model: str | os.PathLike[str] | Autoencoder,
    data: Data | Images | None = None,
    *,
    noisy: Data | None = None,
    split: str = "test",
    samples: int = 1000,
    binarize: bool | None = None,
    corrupt: Sequence[str] | None = None,
    shard: Shard | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    device: str = "auto",
    on_batch: OnBatch = lambda names, metrics, total, learned_split: None,
) -> Evaluation:
    """Evaluate a model: -ELBO and its parts, NLL by importance sampling, MSE, PSNR, SSIM and active units.

    Args:
        model: a checkpoint's path, or a model.
        data: as for `vaectl.train`; None is the data it was trained on. Arrays, folders, lists of paths and one image of a
            data set ("mnist:17") are evaluated whole; "mnist:train" is that split.
        noisy: the noisy partners of the images, as for `vaectl.train`; of folders, all pairs are evaluated.
        split: "test" or "train".
        samples: K of importance sampling; 0 skips the NLL.
        binarize: sample each pixel once as 0 or 1; None does as in training.
        corrupt: corruptions as in "gaussian:0.25"; None does as in training.
        shard: evaluate this part of the images only. Processes that torchrun started share them out by themselves.
        skip_bad: list and skip files that cannot be read; files skipped in training are skipped again.
        on_batch: called with the names and the metrics of a few images at a time, the number of all images if it is known, and of
            a folder that the model was trained on, the split that they were in then.

    Raises:
        UsageError: no such split.
        VaectlError: no such data, no images in that split, or no such device.
    """
    if split not in SPLITS or samples < 0:
        raise UsageError(f"split={split!r}, samples={samples}: choose a split from {', '.join(SPLITS)}, and 0 or more samples")
    if shard and world_size() > 1:
        raise UsageError("--shard is for separate processes: those of torchrun share out the images by themselves")
    own = Shard(rank() + 1, world_size()) if world_size() > 1 else shard
    path = None if isinstance(model, Autoencoder) else os.fspath(model)
    model = model if isinstance(model, Autoencoder) else load(model, device)
    card, has_latent = model.card, model.network.has_latent
    explicit = data is not None
    if data is None:
        data, partners = str(card.data.get("name")), card.data.get("noisy")
        noisy = None if partners == IN_NPZ else partners
        skip_bad = skip_bad or bool(card.data.get("skip_bad"))
        check_learned_data(data, "give other images, with --data in the shell")
    binarize = bool(card.training.get("binarize")) if binarize is None else binarize
    corrupt = [*card.corrupt] * (noisy is None or not explicit) if corrupt is None else corrupt
    config = EvalConfig(
        parse_corruptions(corrupt, read_image_file, on_crops=not has_latent), samples, binarize, ssim=True, seed=seed
    )
    likelihood = make_likelihood(card.likelihood, card.sigma, card.network.outputs_pixels)
    known = model.checkpoint
    evaluator = Evaluator(
        card.network, known.weights, likelihood, resolve_device(device), config, prior=known.prior, experts=known.experts
    )
    total: int | None
    if isinstance(data, str | os.PathLike) and explicit and isinstance(noisy, str | os.PathLike):
        split, (batches, total) = (
            "whole",
            pair_batches(Folder(os.fspath(data)), Folder(os.fspath(noisy)), model, own, skip_bad=skip_bad),
        )
    elif explicit and noisy is None and is_one_split(data):
        learned = load_learned(data, model, skip_bad=skip_bad)
        found = learned_batches(learned, own) if learned else whole_batches(data, model, own, skip_bad=skip_bad)
        split, (batches, total) = "whole", found
    else:
        # Of data that were streamed, the sample that was stored then.
        stream = bool(card.data.get("streamed")) and not explicit
        split, batches, total = split_batches(data, noisy, split, model, own, skip_bad=skip_bad, stream=stream)
    prior = model.checkpoint.prior
    meter, variance, hits = AverageMeter(), RunningVariance(), list[bool]()
    for names, stack, labels, learned_split in batches:
        start = 0
        for metrics, mu in evaluator.compute_metrics(stack):
            end = start + len(mu)
            meter.update(metrics)
            variance.update(mu)
            if prior and labels:
                guesses = zip(prior.classify(mu), labels[start:end], strict=False)
                hits += [guess == label for guess, label in guesses if label in prior.labels]
            on_batch(names[start:end], metrics, total, learned_split)
            start = end
    with join_world(resolve_device(device)) as world:
        meters, variances, hit_lists = zip(*world.gather((meter, variance, hits)), strict=True)
    meter, variance, hits = AverageMeter.merge(meters), RunningVariance.merge(variances), [*chain(*hit_lists)]
    return Evaluation(
        checkpoint=path,
        model=card.model,
        data=str(data) if isinstance(data, str | os.PathLike) else IN_MEMORY,
        split=split,
        shard=f"{shard.index}/{shard.count}" if shard else None,
        images=meter.count,
        binarization="each pixel sampled once" if binarize else "none, gray values are probabilities",
        likelihood=card.likelihood,
        samples=samples if "nll" in meter.sums else None,
        corrupt=corrupt,
        reduction=REDUCTION,
        metrics=meter.means(),
        active_units=variance.active_units(),
        latent_dim=card.network.latent_dim,
        label_accuracy=sum(hits) / len(hits) if hits else None,
    )


def is_one_split(data: Data | Images) -> TypeGuard[Images]:
    """Whether data have no splits to choose from: an array, a folder, tar files, or one image of a data set."""
    if not isinstance(data, str | os.PathLike):
        return not isinstance(data, tuple)
    source = open_source(os.fspath(data))
    return isinstance(source, Folder | Shards) or (isinstance(source, DatasetImages) and source.index is not None)


def whole_batches(
    data: Images, model: Autoencoder, shard: Shard | None, *, skip_bad: bool
) -> tuple[Iterator[NamedBatch], int | None]:
    """All images, or a shard of them, and about how many there are if that is known."""

    def named(batches: Iterable[Batch]) -> Iterator[NamedBatch]:
        return (NamedBatch(batch.names, to_uint8(batch.arrays), batch.labels) for batch in batches)

    sources = as_sources(data)
    if not sources:
        stacks = [*named(model.batches(data))]
        return select_shard(iter(stacks), sum(len(batch.images) for batch in stacks), shard)
    sources = shard.take(sources) if shard else sources
    batches = (batch.map(model.without_alpha) for batch in model.read(sources, skip_bad=skip_bad))
    return named(batches), count_inputs(sources) or None


def select_shard(batches: Iterator[NamedBatch], total: int, shard: Shard | None) -> tuple[Iterator[NamedBatch], int]:
    """The images of a shard of `total` images, and their number."""
    if not shard:
        return batches, total
    wanted = shard.numbers(total)

    def select() -> Iterator[NamedBatch]:
        start = 0
        for batch in batches:
            part = slice(max(wanted.start - start, 0), max(wanted.stop - start, 0))
            names, stack, labels = batch.names[part], batch.images[part], batch.labels[part]
            start += len(batch.images)
            if len(stack):
                yield NamedBatch(names, stack, labels, batch.learned_split)

    return select(), len(wanted)


def load_learned(data: Images, model: Autoencoder, *, skip_bad: bool) -> Dataset | None:
    """The data set that the model was trained on, if `data` is its folder; with a warning, None if that has changed since."""
    card = model.card.data
    name = str(card.get("name"))
    if not isinstance(data, str | os.PathLike) or card.get("noisy") or not (os.path.isdir(data) and os.path.isdir(name)):
        return None
    if not os.path.samefile(data, name):
        return None
    dataset = load_dataset(data, make_preprocessing(model, skip_bad=skip_bad))
    if dataset.sha256 == card.get("sha256"):
        return dataset
    warn(f"{name!r} has changed since the model was trained on it: images that it learned are not told from held-out ones")
    return None


def learned_batches(dataset: Dataset, shard: Shard | None) -> tuple[Iterator[NamedBatch], int]:
    """All images of the data set that a model was trained on, or a shard of them, and their number."""
    batches = (batch._replace(learned_split=split) for split in SPLITS for batch in dataset_batches(dataset, split))
    return select_shard(batches, len(dataset.train) + len(dataset.test), shard)


def pair_batches(
    clean: Folder, noisy: Folder, model: Autoencoder, shard: Shard | None, *, skip_bad: bool
) -> tuple[Iterator[NamedBatch], int]:
    """All pairs of two folders, or a shard of them, and their number."""
    pairs = match_pairs(clean, noisy, SkipPolicy(skip_bad, "paired"))
    if shard:
        wanted = shard.numbers(len(pairs))
        pairs = pairs[wanted.start : wanted.stop]

    def read() -> Iterator[NamedBatch]:
        for pair in pairs:
            (target,), (given,) = (model.batches([path]) for path in (pair.clean, pair.noisy))
            both = to_uint8(np.concatenate([target.arrays, given.arrays], axis=3))
            yield NamedBatch([pair.name], both)

    return read(), len(pairs)


def split_batches(
    data: Data | Images, noisy: Data | None, split: str, model: Autoencoder, shard: Shard | None, *, skip_bad: bool, stream: bool
) -> tuple[str, Iterator[NamedBatch], int]:
    """The split that `data` name ("mnist:train"), else `split`; its images, and their number.

    Raises:
        VaectlError: no such data, or no images in that split.
    """
    source = open_source(os.fspath(data)) if isinstance(data, str | os.PathLike) else None
    if isinstance(source, DatasetImages):
        data, split = source.name, source.split if data != source.name else split
    preprocessing = make_preprocessing(model, skip_bad=skip_bad)
    pairs_in_npz = bool(model.card.data.get("noisy"))
    dataset = load_dataset(cast(Data, data), preprocessing, noisy=noisy, pairs_in_npz=pairs_in_npz, stream=stream)
    count = len(dataset.test if split == "test" else dataset.train)
    if not count:
        raise VaectlError(f"{dataset.name!r} has no {split} images: try --split train")
    return split, *select_shard(dataset_batches(dataset, split), count, shard)


def make_preprocessing(model: Autoencoder, *, skip_bad: bool) -> Preprocessing:
    """How a model's images are resized."""
    height, width, channels = model.image_shape
    size = (height, width) if model.network.has_latent else None
    return Preprocessing(size, channels, model.card.fit, keep_size=size is None, skip_bad=skip_bad)


def dataset_batches(dataset: Dataset, split: str) -> Iterator[NamedBatch]:
    """The images of a split, numbered if they have no names."""
    test = split == "test"
    stack, labels = (dataset.test, dataset.test_labels) if test else (dataset.train, dataset.train_labels)
    names = (dataset.test_names if test else dataset.train_names) or [f"{split}-{index:05d}" for index in range(len(stack))]
    if not isinstance(stack, np.ndarray):
        yield from (NamedBatch([name], image[np.newaxis]) for name, image in zip(names, stack, strict=True))
        return
    for start in range(0, len(stack), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        yield NamedBatch(names[part], stack[part], labels[part])
