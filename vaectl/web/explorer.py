"""A model as a page in the browser: `vaectl.explore`."""

from __future__ import annotations  # so that help() shows the names of types

import base64
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from vaectl.autoencoder import Autoencoder, Images, as_sources, load
from vaectl.datasets.catalogue import NAMES
from vaectl.datasets.load import Preprocessing, load_dataset
from vaectl.errors import UsageError, VaectlError, warn
from vaectl.io.images import from_uint8, to_uint8
from vaectl.io.inputs import Batch
from vaectl.io.sources import count_inputs
from vaectl.networks.tiling import receptive_radius, required_multiple
from vaectl.types import Array, UInt8Array
from vaectl.web.page import FIGURES, read_asset, render, wrap_module

# Called with the number of images just read, and of all if it is known.
OnRead = Callable[[int, int | None], None]

MAX_THUMBNAIL_SIDE = 128
MAX_SHEET_SIDE = 16_383  # of WebP
MAX_LOSSLESS_SIDE = 32  # on small images, the artifacts of a lossy format show
WEBP_OPTIONS = {"quality": 85, "method": 1}
TILE_SIZE = 256  # pixels of a photograph that are denoised at once


@dataclass(frozen=True)
class Gallery:
    """Images in a page: their names and labels, their latents (N, D), and their thumbnails (N, H, W, C), 0 to 255."""

    names: Sequence[str]
    labels: Sequence[str | None]
    latents: Array
    thumbnails: UInt8Array


def explore(
    model: str | os.PathLike[str] | Autoencoder,
    images: Images | None = None,
    *,
    count: int = 2000,
    invert: bool = False,
    skip_bad: bool = False,
    device: str = "auto",
    on_read: OnRead = lambda done, total: None,
) -> bytes:
    """One self-contained HTML page: a map of the images in the latent space, and the decoder below the pointer.

    A model without a latent gets a page that denoises the photographs that are dropped on it.

    Args:
        model: a checkpoint's path, or a model.
        images: as for `Autoencoder.encode`; None is the test images of the data set, or the folder, that it was trained on.
        count: at most so many images are shown, spread evenly over all if their number is known; else the first.
        invert: swap black and white in images that are read.
        skip_bad: list and skip images that cannot be read.
        on_read: called now and then.

    Raises:
        UsageError: images for a model without a latent.
        VaectlError: as `Autoencoder.encode`, or no images are given and the data are gone.
    """
    name = model.card.model if isinstance(model, Autoencoder) else os.path.basename(os.fspath(model))
    model = model if isinstance(model, Autoencoder) else load(model, device)
    if not model.network.has_latent:
        if images is not None:
            raise UsageError(f"{name} has no latent to explore: leave out the images, and drop photographs on its page")
        return build_denoiser(model, name)
    if not count:
        return build_explorer(model, name, (), "")
    images = find_images(model) if images is None else images
    called = " and ".join(source.describe().strip("'") for source in as_sources(images))
    return build_explorer(model, name, read_sample(model, images, count, invert, skip_bad, on_read), called)


def find_images(model: Autoencoder) -> str | UInt8Array:
    """The images that the model was tested on: those of a data set by its name, all of a folder, or those in a file.

    Raises:
        VaectlError: they are gone, or were arrays.
    """
    data = str(model.card.data.get("name"))
    if data in NAMES or os.path.isdir(data):
        return data
    if not os.path.exists(data):
        raise VaectlError(f"the model was trained on {data!r}, which is not here", "give IMAGES, or --count 0 for an empty map")
    height, width, channels = model.image_shape
    return np.asarray(load_dataset(data, Preprocessing((height, width), channels, model.card.fit)).held_out)


def read_sample(model: Autoencoder, images: Images, count: int, invert: bool, skip_bad: bool, on_read: OnRead) -> Iterator[Batch]:
    """At most `count` images, spread evenly over all if their number is known; else the first."""
    sources = as_sources(images)
    if not sources:
        yield from (batch.first(count) for batch in model.batches(images))
        return
    total = count_inputs(sources)
    every = math.ceil(total / count) if total else 1
    if total and every > 1:
        warn(f"showing {math.ceil(total / every):,} of {total:,} images: choose how many with --count")
    read = 0
    for batch in model.read(sources, invert=invert, skip_bad=skip_bad, every=every):
        yield batch.first(count - read)
        read += len(batch)
        on_read(len(batch), total and math.ceil(total / every))
        if read > count:
            warn(f"showing the first {count:,} images: choose how many with --count")
            return


def build_explorer(model: Autoencoder, name: str, batches: Iterable[Batch], source: str) -> bytes:
    """A page with a map of the images, and the decoder below the pointer.

    `name` is the model's, `source` what the images are called.

    Raises:
        VaectlError: a model without a latent, or what reading the batches raises.
    """
    model.require_latent()
    gallery = encode_gallery(model, batches)
    card, stats, prior = model.card, model.card.latent_stats, model.checkpoint.prior
    tensors = {**model.checkpoint.weights, "latents": gallery.latents}
    if model.latent_dim > 2 and len(gallery.latents) > 1:
        tensors["pca"] = principal_components(gallery.latents, 2)
    if prior:
        tensors |= {f"prior.{part}": getattr(prior, part) for part in ("weights", "means", "factors", "shares")}
    sheet, columns = draw_sheet(gallery.thumbnails)
    label_names = sorted({label for label in gallery.labels if label is not None}, key=natural_order)
    index = {label: number for number, label in enumerate(label_names)}
    content = {
        "lead": lead(model, len(gallery.names), source),
        "stats": {"mean": stats.mean, "std": stats.std},
        "fit": card.fit,
        "epochs": card.epochs,
        "figures": [(figure, term) for figure, (term, _) in FIGURES.items()],
        "prior": {"dims": prior.dims.tolist(), "labels": prior.labels} if prior else None,
        "images": {
            "names": gallery.names,
            "labels": [-1 if label is None else index[label] for label in gallery.labels],
            "label_names": label_names,
            "columns": columns,
            "side": gallery.thumbnails.shape[1:3],
        },
    }
    script = [
        wrap_module("gifenc"),
        *map(read_asset, ("shared.js", "resize.js", "npy.js", "prior.js", "curves.js", "plane.js", "map.js", "explore.js")),
    ]
    return render("explore.html", f"{name}: the latent space", model, content, tensors, script, sheet=sheet)


def build_denoiser(model: Autoencoder, name: str) -> bytes:
    """A page that denoises the photographs that are dropped on it, with a model without a latent."""
    layers = model.network.decoder
    multiple = required_multiple(layers)
    content = {
        "lead": "Drop a photograph on this page, or open one. It is denoised here and is sent nowhere.",
        "tiling": {"tile": TILE_SIZE, "margin": math.ceil(receptive_radius(layers) / multiple) * multiple, "multiple": multiple},
    }
    script = [*map(read_asset, ("shared.js", "denoise.js"))]
    return render("denoise.html", f"{name}: denoise photographs", model, content, model.checkpoint.weights, script)


def encode_gallery(model: Autoencoder, batches: Iterable[Batch]) -> Gallery:
    """Encode the images of a page."""
    height, width, channels = model.image_shape
    names: list[str] = []
    labels: list[str | None] = []
    latents, thumbnails = (
        [np.empty((0, model.latent_dim), np.float32)],
        [np.empty((0, *thumbnail_size(height, width), channels), np.uint8)],
    )
    for batch in batches:
        names += batch.names
        labels += batch.labels or [None] * len(batch)
        latents.append(model.encode(batch.arrays))
        thumbnails.append(shrink(to_uint8(batch.arrays)))
    return Gallery(names, labels, np.concatenate(latents), np.concatenate(thumbnails))


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
    image: Image.Image = from_uint8(pixels)
    image.save(stream, "PNG" if lossless else "WEBP", **({} if lossless else WEBP_OPTIONS))
    return f"data:image/{'png' if lossless else 'webp'};base64,{base64.b64encode(stream.getvalue()).decode()}", columns


def principal_components(z: Array, count: int) -> Array:
    """The directions in which latents (N, D) vary most, (count, D), the first one first."""
    variances, directions = np.linalg.eigh(np.cov(z, rowvar=False))
    result: Array = directions[:, np.argsort(-variances)[:count]].T.astype(np.float32)
    return result


def natural_order(label: str) -> tuple[int, int, str]:
    """A key that sorts numbers by value, before words."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)


def lead(model: Autoencoder, count: int, source: str) -> str:
    """What the page shows, for somebody who has never heard of an autoencoder."""
    of = f" of {source}" if source else ""
    numbers = "1 number" if model.latent_dim == 1 else f"{model.latent_dim} numbers"
    shown = f"Each dot is one image{of}, placed by its numbers: images that look alike lie close together. " if count else ""
    return (
        f"The model describes an image by {numbers}, and draws images from such numbers. {shown}"
        "Move over the map: what the model draws for the point below the pointer appears beside it, also where there is no image."
    )
