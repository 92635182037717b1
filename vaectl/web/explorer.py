"""A model as a page in the browser: `vaectl.explore`."""

from __future__ import annotations  # so that help() shows the names of types

import base64
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO

import numpy as np

from vaectl.base.arrays import Array, UInt8Array
from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.text import N_NAMED
from vaectl.datasets.array_files import ArrayImages
from vaectl.datasets.catalogue import NAMES
from vaectl.datasets.load import check_learned_data, load_dataset
from vaectl.datasets.preprocessing import Preprocessing
from vaectl.images.resize import from_uint8, to_uint8
from vaectl.io.records import Batch
from vaectl.io.sources import Source, count_inputs
from vaectl.models.autoencoder import Autoencoder, Images, as_sources, load
from vaectl.models.metric_labels import label_metric, sort_metrics
from vaectl.models.tiling import receptive_radius, required_multiple
from vaectl.web.page import read_asset, render, wrap_module

# Called with the number of images just read, and of all if it is known.
OnImages = Callable[[int, int | None], None]

MAX_THUMBNAIL_SIDE = 128
MAX_SHEET_SIDE = 16_383  # of WebP
MAX_LOSSLESS_SIDE = 32  # on small images, the artifacts of a lossy format show
WEBP_OPTIONS = {"quality": 85, "method": 1}
TILE_SIZE = 256  # pixels of a photograph that are denoised at once


def explore(
    model: str | os.PathLike[str] | Autoencoder,
    images: Images | None = None,
    *,
    count: int = 2000,
    invert: bool = False,
    skip_bad: bool = False,
    device: str = "auto",
    on_read: OnImages = lambda more, total: None,
) -> bytes:
    """One self-contained HTML page: a map of the images in the latent space, and the decoder below the pointer.

    A model without a latent gets a page that denoises the photographs that are dropped on it.

    Args:
        model: a checkpoint's path, or a model.
        images: as for `Autoencoder.encode`; None is those that it was tested on, or all of the folder that it was trained on.
        count: at most so many images are shown, spread evenly over all if their number is known; else the first.
        invert: swap black and white in images that are read.
        skip_bad: list and skip images that cannot be read.
        on_read: called with the number of images just read, and of all if it is known.

    Raises:
        UsageError: images for a model without a latent.
        VaectlError: as `Autoencoder.encode`, or no images are given and the data are gone.
    """
    name = model.card.model if isinstance(model, Autoencoder) else os.path.basename(os.fspath(model))
    model = model if isinstance(model, Autoencoder) else load(model, device)
    if not model.network.has_latent:
        if images is not None:
            raise UsageError(f"{name} has no latent to explore: leave out the images, and drop photos on the page")
        return build_denoiser(model, name)
    if not count:
        return build_explorer(model, name, (), "")
    sources, source = find_images(model) if images is None else name_sources(images, model)
    skip_bad = skip_bad or (images is None and bool(model.card.data.get("skip_bad")))
    batches = read_sample(model, sources, count, invert, skip_bad, on_read)
    return build_explorer(model, name, batches, source)


def find_images(model: Autoencoder) -> tuple[Sequence[Source], str]:
    """The images that the model was tested on, and what they are called: all of a folder, else the test split.

    Raises:
        VaectlError: they are gone, or were arrays.
    """
    data = str(model.card.data.get("name"))
    check_learned_data(data, "give IMAGES, or --count 0 for an empty map")
    if data.partition(":")[0] in NAMES or os.path.isdir(data):
        return name_sources(data, model)
    height, width, channels = model.image_shape
    dataset = load_dataset(data, Preprocessing((height, width), channels, model.card.fit))
    return [dataset.images(dataset.held_out_split)], data


def name_sources(images: Images, model: Autoencoder) -> tuple[Sequence[Source], str]:
    """Where images are, and what they are called in words; an array has no name."""
    if not (sources := as_sources(images)):
        return [ArrayImages(to_uint8(batch.arrays), names=batch.names) for batch in model.batches(images)], ""
    more = len(sources) - N_NAMED
    return sources, ", ".join(source.describe() for source in sources[:N_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def announce_sample(total: int, count: int) -> int:
    """The step between images shown, so that at most `count` of `total` are shown. A warning says so."""
    every = max(1, math.ceil(total / count))
    if every > 1:
        warn(f"showing {math.ceil(total / every):,} of {total:,} images: use --count to change the number")
    return every


def read_sample(
    model: Autoencoder,
    sources: Sequence[Source],
    count: int,
    invert: bool,
    skip_bad: bool,
    on_read: OnImages,
) -> Iterator[Batch]:
    """At most `count` images, spread evenly over all if their number is known; else the first."""
    total = count_inputs(sources)
    every = announce_sample(total or 0, count)
    read = 0
    for batch in model.read(sources, invert=invert, skip_bad=skip_bad, every=every):
        if read < count:
            yield batch.select(slice(count - read))
        read += len(batch)
        on_read(len(batch), total and math.ceil(total / every))
        if read > count:
            warn(f"showing the first {count:,} images: use --count to change the number")
            return


def build_explorer(model: Autoencoder, name: str, batches: Iterable[Batch], source: str) -> bytes:
    """A page with a map of the images; `name` is the model's, `source` what the images are called.

    Raises:
        VaectlError: a model without a latent, or what reading the batches raises.
    """
    model.require_latent()
    gallery, thumbnails = encode_gallery(model, batches)
    card, stats, prior = model.card, model.card.latent_stats, model.checkpoint.prior
    tensors = {**model.checkpoint.weights, "latents": gallery.arrays}
    if model.latent_dim > 2 and len(gallery.arrays) > 1:
        tensors["pca"] = principal_components(gallery.arrays, 2)
    if prior:
        tensors |= {f"prior.{part}": getattr(prior, part) for part in ("weights", "means", "factors", "shares")}
    sheet, columns = draw_sheet(thumbnails)
    label_names = sorted({label for label in gallery.labels if label is not None}, key=natural_order)
    index = {label: number for number, label in enumerate(label_names)}
    content = {
        "lead": lead(model, len(gallery.names), source),
        "stats": {"mean": stats.mean, "std": stats.std},
        "fit": card.fit,
        "epochs": card.epochs,
        "figures": [(metric, label_metric(metric)) for metric in sort_metrics(name for epoch in card.epochs for name in epoch)],
        "prior": {"dims": prior.dims.tolist(), "labels": prior.labels} if prior else None,
        "images": {
            "names": gallery.names,
            "labels": [-1 if label is None else index[label] for label in gallery.labels],
            "label_names": label_names,
            "columns": columns,
            "side": thumbnails.shape[1:3],
        },
    }
    script = [
        wrap_module("gifenc"),
        *map(read_asset, ("shared.js", "resize.js", "npy.js", "prior.js", "curves.js", "plane.js", "map.js", "explore.js")),
    ]
    body = read_asset("explore.html").replace("$sheet", sheet)
    return render(body, f"{name}: the latent space", model, content, tensors, script)


def build_denoiser(model: Autoencoder, name: str) -> bytes:
    """A page that denoises the photographs that are dropped on it, with a model without a latent."""
    layers = model.network.decoder
    multiple = required_multiple(layers)
    content = {
        "lead": "Drop a photograph on this page, or open one. It is denoised here and is sent nowhere.",
        "experts": [(expert.low, expert.high) for expert in model.checkpoint.experts],
        "tiling": {"tile": TILE_SIZE, "margin": math.ceil(receptive_radius(layers) / multiple) * multiple, "multiple": multiple},
    }
    script = [*map(read_asset, ("shared.js", "denoise.js"))]
    tensors = {**model.checkpoint.weights}
    for index, expert in enumerate(model.checkpoint.experts):
        tensors |= {f"experts.{index}.{name}": weight for name, weight in expert.weights.items()}
    return render(read_asset("denoise.html"), f"{name}: denoise photographs", model, content, tensors, script)


def encode_gallery(model: Autoencoder, batches: Iterable[Batch]) -> tuple[Batch, UInt8Array]:
    """The latents of the images of a page, and their thumbnails (N, H, W, C)."""
    height, width, channels = model.image_shape
    names: list[str] = []
    labels: list[str | None] = []
    # Arrays of no images, because there may be none.
    latents = [np.empty((0, model.latent_dim), np.float32)]
    thumbnails = [np.empty((0, *thumbnail_size(height, width), channels), np.uint8)]
    for batch in batches:
        names += batch.names
        labels += batch.labels
        latents.append(model.encode_batch(batch.arrays))
        thumbnails.append(shrink(to_uint8(batch.arrays)))
    return Batch(names, np.concatenate(latents), labels=labels), np.concatenate(thumbnails)


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """The height and width of a thumbnail: those of the image, or smaller."""
    scale = min(1, MAX_THUMBNAIL_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(images: UInt8Array) -> UInt8Array:
    """Images (N, H, W, C) as thumbnails."""
    size = thumbnail_size(*images.shape[1:3])
    if size == images.shape[1:3]:
        return images
    small = [np.asarray(from_uint8(image).resize(size[::-1])) for image in images]
    return np.stack(small).reshape(len(images), *size, images.shape[3])


def draw_sheet(thumbnails: UInt8Array) -> tuple[str, int]:
    """Thumbnails (N, H, W, C) on one sheet, as a data URL, and its number of columns; an empty URL if there are none.

    Raises:
        VaectlError: more than a WebP can hold.
    """
    count, height, width, channels = thumbnails.shape
    if not count:
        return "data:,", 1
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    if max(columns * width, rows * height) > MAX_SHEET_SIDE:
        raise VaectlError(f"{count} images of {height} x {width} are too many for one page", "give a lower --count")
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = thumbnails
    pixels = (
        sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    )
    stream = BytesIO()
    lossless = max(height, width) <= MAX_LOSSLESS_SIDE
    from_uint8(pixels).save(stream, "PNG" if lossless else "WEBP", **({} if lossless else WEBP_OPTIONS))
    return f"data:image/{'png' if lossless else 'webp'};base64,{base64.b64encode(stream.getvalue()).decode()}", columns


def principal_components(z: Array, count: int) -> Array:
    """The directions in which latents (N, D) vary most, (count, D), the first one first."""
    result: Array = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[2][:count]
    return result


def natural_order(label: str) -> tuple[int, int, str]:
    """A key that sorts numbers by value, before words."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def lead(model: Autoencoder, count: int, source: str) -> str:
    """A plain explanation of the page."""
    of = f" of {source}" if source else ""
    numbers = "1 number" if model.latent_dim == 1 else f"{model.latent_dim} numbers"
    shown = f"Each dot is one image{of}, placed by its numbers: images that look alike lie close together. " if count else ""
    return (
        f"The model describes an image by {numbers}, and draws images from such numbers. {shown}"
        "Move over the map: the model draws an image for the point below the pointer, also where there is none of yours."
    )
