"""Evaluating a model on a data set: `vaectl.evaluate`."""

from __future__ import annotations  # so that help() shows the names of types

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeGuard, cast

from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.processes import rank, world_size
from vaectl.datasets.array_files import IN_MEMORY, IN_NPZ, ArrayImages, PassThroughDecoder
from vaectl.datasets.catalogue import SPLITS
from vaectl.datasets.load import Data, Dataset, check_learned_data, load_dataset
from vaectl.datasets.named import DatasetImages, open_source
from vaectl.datasets.pairs import match_pairs
from vaectl.datasets.preprocessing import Preprocessing
from vaectl.images.corruption import parse_corruptions
from vaectl.images.resize import to_uint8
from vaectl.io.decoders import Decoder
from vaectl.io.inputs import read_batches, read_image_file
from vaectl.io.records import Batch
from vaectl.io.sources import Folder, Shard, SkipPolicy, Source, count_inputs
from vaectl.io.tars import TarImages
from vaectl.models.autoencoder import Autoencoder, Images, as_sources, load
from vaectl.models.device import resolve_device
from vaectl.models.mixture import Mixture
from vaectl.training.distributed import join_world
from vaectl.training.losses import make_likelihood
from vaectl.training.metrics import AverageMeter, EvalConfig, Evaluator, Metrics, RunningVariance

# Called with names, metrics, the number of all images if it is known, and the split that
# they were in when the model was trained on them, if they were.
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
    corrupt: str | Sequence[str] | None = None,
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
    check_arguments(split, samples, shard)
    own = Shard(rank() + 1, world_size()) if world_size() > 1 else shard
    path = None if isinstance(model, Autoencoder) else os.fspath(model)
    model = model if isinstance(model, Autoencoder) else load(model, device)
    card = model.card
    explicit = data is not None
    if data is None:
        data, partners = str(card.data.get("name")), card.data.get("noisy")
        noisy = None if partners == IN_NPZ else partners
        skip_bad = skip_bad or bool(card.data.get("skip_bad"))
        check_learned_data(data, "give other images, with --data in the shell")
    binarize = bool(card.training.get("binarize")) if binarize is None else binarize
    if corrupt is None:
        corrupt = [*card.corrupt] * (noisy is None or not explicit)
    corrupt = [corrupt] if isinstance(corrupt, str) else corrupt
    corruptions = parse_corruptions(corrupt, read_image_file, on_crops=not model.network.has_latent)
    config = EvalConfig(corruptions, samples, binarize, ssim=True, seed=seed)
    likelihood = make_likelihood(card.likelihood, card.sigma, card.network.outputs_pixels)
    weights, prior, experts = model.checkpoint.weights, model.checkpoint.prior, model.checkpoint.experts
    evaluator = Evaluator(card.network, weights, likelihood, resolve_device(device), config, prior, experts)
    policy = SkipPolicy(skip_bad, "read" if noisy is None else "paired")
    split, sources, decoder = choose_sources(data, noisy, split, model, policy, explicit=explicit)
    sources = own.take(sources) if own else sources
    batches, total = read_batches(sources, decoder, policy), count_inputs(sources)
    totals = measure(evaluator, batches, prior, total, on_batch)
    with join_world(resolve_device(device)) as world:
        totals = Totals.merge(world.gather(totals))
    return Evaluation(
        checkpoint=path,
        model=card.model,
        data=str(data) if isinstance(data, str | os.PathLike) else IN_MEMORY,
        split=split,
        shard=f"{shard.index}/{shard.count}" if shard else None,
        images=totals.meter.count,
        binarization="each pixel sampled once" if binarize else "none, gray values are probabilities",
        likelihood=card.likelihood,
        samples=samples if "nll" in totals.meter.sums else None,
        corrupt=corrupt,
        reduction=REDUCTION,
        metrics=totals.meter.means(),
        active_units=totals.variance.active_units(),
        latent_dim=card.network.latent_dim,
        label_accuracy=sum(totals.hits) / len(totals.hits) if totals.hits else None,
    )


@dataclass(frozen=True)
class Totals:
    """The metrics of all images that were measured, and whether the label of each was guessed."""

    meter: AverageMeter = field(default_factory=AverageMeter)
    variance: RunningVariance = field(default_factory=RunningVariance)
    hits: list[bool] = field(default_factory=list)

    @classmethod
    def merge(cls, parts: Sequence[Totals]) -> Totals:
        """The totals of all images of several parts."""
        meters, variances, hits = ([getattr(part, name) for part in parts] for name in ("meter", "variance", "hits"))
        return cls(AverageMeter.merge(meters), RunningVariance.merge(variances), [*chain(*hits)])


def measure(
    evaluator: Evaluator, batches: Iterable[Batch], prior: Mixture | None, total: int | None, on_batch: OnBatch
) -> Totals:
    """Measure the images of batches, about `total` in all if that is known."""
    totals = Totals()
    for batch in batches:
        start = 0
        for metrics, mu in evaluator.compute_metrics(to_uint8(batch.arrays)):
            end = start + len(mu)
            totals.meter.update(metrics)
            totals.variance.update(mu)
            if prior and batch.labels:
                guesses = zip(prior.classify(mu), batch.labels[start:end], strict=False)
                totals.hits.extend(guess == label for guess, label in guesses if label in prior.labels)
            on_batch(batch.names[start:end], metrics, total, batch.split)
            start = end
    return totals


def check_arguments(split: str, samples: int, shard: Shard | None) -> None:
    """Raise a UsageError for arguments of `evaluate` that are out of range, or do not go with torchrun."""
    if split not in SPLITS:
        raise UsageError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    if samples < 0:
        raise UsageError(f"samples={samples}: give 0 or more")
    if shard and world_size() > 1:
        raise UsageError("--shard is for separate processes: under torchrun, images are divided already")


def is_one_split(data: Data | Images) -> TypeGuard[Images]:
    """Whether the data have a single split: an array, a folder, tar files, or one image of a data set."""
    if not isinstance(data, str | os.PathLike):
        return not isinstance(data, tuple)
    source = open_source(os.fspath(data))
    return isinstance(source, Folder | TarImages) or (isinstance(source, DatasetImages) and source.index is not None)


def choose_sources(
    data: Data | Images, noisy: Data | None, split: str, model: Autoencoder, policy: SkipPolicy, *, explicit: bool
) -> tuple[str, Sequence[Source], Decoder]:
    """Which split of the data is evaluated, or "whole"; where its images are, and what makes of them what the model takes.

    Raises:
        VaectlError: no such data, or no images in that split.
    """
    decoder = model.image_decoder(with_alpha=False)
    if explicit and isinstance(data, str | os.PathLike) and isinstance(noisy, str | os.PathLike):
        return "whole", [match_pairs(Folder(os.fspath(data)), Folder(os.fspath(noisy)), policy)], decoder
    if explicit and noisy is None and is_one_split(data):
        if learned := load_learned(data, model, policy):
            return "whole", [learned.images(split) for split in SPLITS], pass_through_decoder(model)
        if sources := as_sources(data):
            return "whole", sources, decoder
        (batch,) = model.batches(data)
        return "whole", [ArrayImages(to_uint8(batch.arrays), names=batch.names)], pass_through_decoder(model)
    source = open_source(os.fspath(data)) if isinstance(data, str | os.PathLike) else None
    if isinstance(source, DatasetImages):
        data, split = source.name, source.split if data != source.name else split
    pairs_in_npz = bool(model.card.data.get("noisy"))
    dataset = load_dataset(cast(Data, data), make_preprocessing(model, policy), noisy=noisy, pairs_in_npz=pairs_in_npz)
    images = dataset.images(split)
    if not images.count():
        raise VaectlError(f"{dataset.name!r} has no {split} images: try --split train")
    return split, [replace(images, split=None)], pass_through_decoder(model)  # nothing is told apart


def load_learned(data: Images, model: Autoencoder, policy: SkipPolicy) -> Dataset | None:
    """The data set that the model was trained on, if `data` is its folder; with a warning, None if that has changed since."""
    card = model.card.data
    name = str(card.get("name"))
    if not isinstance(data, str | os.PathLike) or card.get("noisy") or not (os.path.isdir(data) and os.path.isdir(name)):
        return None
    if not os.path.samefile(data, name):
        return None
    dataset = load_dataset(data, make_preprocessing(model, policy))
    if dataset.sha256 == card.get("sha256"):
        return dataset
    warn(f"{name!r} has changed since the model was trained on it: training and held-out images cannot be told apart")
    return None


def pass_through_decoder(model: Autoencoder) -> PassThroughDecoder:
    """What takes images that already are as the model takes them: photos of several sizes one by one."""
    return PassThroughDecoder(BATCH_SIZE if model.network.has_latent else 1)


def make_preprocessing(model: Autoencoder, policy: SkipPolicy) -> Preprocessing:
    """How a model's images are resized."""
    height, width, channels = model.image_shape
    size = (height, width) if model.network.has_latent else None
    return Preprocessing(size, channels, model.card.fit, keep_size=size is None, skip_bad=bool(policy.skip))
