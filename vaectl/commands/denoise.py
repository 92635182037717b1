"""vaectl denoise."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base.errors import UsageError, VaectlError, warn
from vaectl.base.text import list_names
from vaectl.commands import options

if TYPE_CHECKING:
    from vaectl.base.arrays import Array
    from vaectl.io.outputs import Destination
    from vaectl.io.records import Batch
    from vaectl.models.autoencoder import Autoencoder

DEFAULT = "photo"

COMPARE = typer.Option(
    "--compare", help="Put each image above its result; with --corrupt, the clean, the corrupted and the denoised one."
)
STRENGTH = typer.Option("--strength", min=0, max=1, metavar="X", help="How much of the noise to remove: 0.7 leaves some grain.")


@dataclass(frozen=True)
class DenoiseOptions:
    """How images are denoised, and what of it is shown."""

    strength: Annotated[float, STRENGTH] = 1
    corrupt: options.Corrupt = None
    compare: Annotated[bool, COMPARE] = False
    seed: options.Seed = 0


def denoise(
    *,
    inputs: options.Images = None,
    how: DenoiseOptions,
    shard: options.Shard = None,
    reading: options.ReadOptions,
    model_options: options.ModelOptions,
    output: options.Output = None,
    format: options.ImageFormat = None,
    keep_format: options.KeepFormat = False,
    layout: options.LayoutOptions,
    quiet: options.Quiet = False,
) -> None:
    """Without a trained denoiser in this folder, the ready-made photo is used. Like every unet, it takes photos of any size
    and keeps their alpha, 16 bits, color profile, EXIF, XMP and resolution. Other networks resize images to the size they
    were trained on.

    \b
      vaectl denoise photo.jpg -o clean.jpg
      vaectl denoise noisy/ -o clean/ --keep-format
      vaectl denoise photo.jpg --strength 0.7 -o grainy.jpg
      vaectl denoise noisy/ --compare -o compared/
      vaectl denoise mnist:17 --corrupt gaussian:0.25 --compare -o compared.png
    """
    import numpy as np

    from vaectl.commands import console
    from vaectl.datasets.named import open_sources
    from vaectl.images.corruption import NumpyRandom, apply_corruptions, parse_corruptions
    from vaectl.images.formats import IMAGE_FORMATS
    from vaectl.io.inputs import read_image_file
    from vaectl.io.outputs import parse_destination, write_images
    from vaectl.io.sources import parse_shard

    part = parse_shard(shard) if shard else None
    destination = parse_destination(output, format, IMAGE_FORMATS, animate=layout.animate, keep_format=keep_format)
    if part and not destination.is_folder:
        raise UsageError("--shard needs an output folder, as in --shard 2/8 -o clean/")
    if destination.is_folder:
        check_originals_stay(inputs or [], destination)
    model = load_denoiser(model_options)
    corruptions = parse_corruptions(how.corrupt or [], read_image_file, on_crops=not model.network.has_latent)
    random = NumpyRandom((how.seed, part.index) if part else how.seed)

    monitor = NoiseMonitor(model)

    def denoised(batch: "Batch") -> "Batch":
        channels = model.image_shape[2]
        clean, alpha = batch.arrays[..., :channels], batch.arrays[..., channels:]
        corrupted = apply_corruptions(corruptions, clean, random).astype(np.float32)
        sigma = monitor.check(batch.names, corrupted)
        result = how.strength * model.reconstruct_batch(corrupted, sigma=sigma) + (1 - how.strength) * corrupted
        shown = ([clean, corrupted, result] if corruptions else [clean, result]) if how.compare else [result]
        return replace(batch, arrays=np.concatenate([np.concatenate([stack, alpha], axis=3) for stack in shown], axis=1))

    sources = open_sources(inputs or [], "an IMAGE, a folder or an NPY", part)
    tracked = console.track(model.read(sources, invert=reading.invert, skip_bad=reading.skip_bad), sources, quiet)
    write_images(map(denoised, tracked), destination, layout.make_layout())
    monitor.warn()


def check_originals_stay(paths: Sequence[str], destination: "Destination") -> None:
    """Raise a UsageError if the output folder holds the originals."""
    for path in filter(os.path.exists, paths):
        is_folder, suffix = os.path.isdir(path), os.path.splitext(path)[1].lower()
        folder = path if is_folder else os.path.dirname(path) or os.curdir
        joins = is_folder or destination.keeps_format or suffix == f".{destination.format}"
        if joins and os.path.realpath(folder) == os.path.realpath(destination.path):
            raise UsageError(f"{destination.path!r} holds the originals: name another folder with -o")


def load_denoiser(given: options.ModelOptions) -> "Autoencoder":
    """The named model, else the denoiser in this folder, else the ready-made one.

    Raises:
        VaectlError: the model was trained on clean images.
    """
    from vaectl.models import autoencoder

    path, device = given.checkpoint, given.device
    chosen = options.find_checkpoint(path, preferred="dae", pretrained=DEFAULT)
    model = autoencoder.load(chosen, device)
    if not path and not model.card.denoises:  # this folder has only other models
        chosen, model = DEFAULT, autoencoder.load(DEFAULT, device)
    if not model.card.denoises:
        what = f"{chosen!r}, a {model.card.model}, was trained on clean images"
        raise VaectlError(what, "name a dae with -c FILE, or -c photo for photos, or train one (vaectl train dae)")
    if not path and chosen == DEFAULT:
        others = options.checkpoints_here()
        found = f" ({list_names(others)} {'is' if len(others) == 1 else 'are'} here)" if others else ""
        warn(f"using {chosen!r}, the ready-made denoiser of photos: choose another with -c{found}")
    return model


class NoiseMonitor:
    """Finds photos whose noise is outside the range that a model was trained on."""

    def __init__(self, model: "Autoencoder") -> None:
        from vaectl.images.corruption import noise_range

        self.model = model
        self.learned = None if model.network.has_latent else noise_range(model.card.corrupt)
        self.noisy: list[tuple[str, float]] = []
        self.clean: list[tuple[str, float]] = []

    def check(self, names: Sequence[str], images: "Array") -> float | None:
        """Estimate the noise of a photo, (1, H, W, C), and return what chooses the weights of a model that has several."""
        from vaectl.images.noise import Noise

        if self.model.network.has_latent:
            return None
        (name,), (photo,) = names, images
        noise = Noise(photo)
        if self.learned and noise.sigma > 1.2 * self.learned.high + 0.01:
            self.noisy.append((name, noise.sigma))
        elif self.learned and noise.sigma < 0.5 * self.learned.low:
            self.clean.append((name, noise.sigma))
        return noise.white_sigma if self.model.experts else None

    def warn(self) -> None:
        """Warn of them, in a line for each kind."""
        if self.learned and self.noisy:
            warn(f"{describe(self.noisy)}, above the {self.learned.high:.2g} that this model was trained on: some will remain")
        if self.learned and self.clean:
            advice = "it will smooth details: use -c photo, or train with a range (--corrupt gaussian:0-0.2)"
            warn(f"{describe(self.clean)}, below the {self.learned.low:.2g} that this model was trained on: {advice}")


def describe(found: list[tuple[str, float]]) -> str:
    """The first photo, its noise, and how many more there are."""
    (name, sigma), *others = found
    more = f" (and {len(others)} more)" if others else ""
    return f"{name!r}{more} has noise of about {sigma:.2g}"
