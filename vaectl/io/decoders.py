"""What is made of the images and the arrays that sources hold."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from vaectl.base.arrays import Array, to_finite
from vaectl.base.errors import VaectlError
from vaectl.base.prefetch import AHEAD
from vaectl.base.shapes import Shape
from vaectl.images import codecs, resize
from vaectl.images.formats import READABLE_FORMATS, READABLE_LABELS, UNREADABLE_FORMATS
from vaectl.images.metadata import Metadata
from vaectl.images.resize import ResizeSpec
from vaectl.io.records import Sample

# A sample, what is wrong with it, or what reads it in a thread.
Task = Sample | VaectlError | Callable[[], Sample]

CONTENTS = {
    "empty": "empty",
    "unknown": "neither an image nor an array",
    "NPY": "an NPY array",
    "CSV": "a CSV table",
    "PARQUET": "a Parquet table",
    **{format: f"{format}, which vaectl does not read" for format in UNREADABLE_FORMATS},
}  # by format, for errors


def describe_content(format: str, where: str) -> str:
    """What is `where`, as the beginning of an error."""
    return f"{where} is {CONTENTS.get(format, f'a {format} file')}"


def folder_label(name: str) -> str | None:
    """The label of an image in a folder: the subfolder at the start of its name, if there is one."""
    subfolder, separator, _ = name.partition(os.sep)
    return subfolder if separator else None


def fit_pixels(pixels: NDArray[Any], spec: ResizeSpec) -> NDArray[Any]:
    """An image in memory, as in `Decoder.convert`, fitted to the spec."""
    return pixels if pixels.shape == spec.image_shape else resize.resize_image(resize.from_uint8(pixels), spec)


class Decoder:
    """Makes samples of what a source holds; `where` an image or an array comes from begins errors.

    `batch_size` of them are gathered, by default as many as memory bounds; `ahead` are decoded in advance by each thread.
    """

    ahead: int = AHEAD
    batch_size: int | None = None

    def check_format(self, format: str, where: str) -> None:
        """Raise a VaectlError for a format that is not decoded."""
        if format in UNREADABLE_FORMATS:
            raise VaectlError(describe_content(format, where), "convert it to JPEG or PNG")
        if format not in READABLE_FORMATS:
            expected = f"an image is expected ({READABLE_LABELS} or NPY)"
            raise VaectlError(f"{describe_content(format, where)}: {expected}")

    def task(self, name: str, where: str, data: bytes) -> Task:
        """What decodes the bytes of an image."""
        return partial(self.decode, name, where, data)

    def decode(self, name: str, where: str, data: bytes) -> Sample:
        """Decode the bytes of an image."""
        raise NotImplementedError

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        """Take an image in memory, (H, W, C), uint8, or float32 in [0, 1] if it is gray."""
        raise NotImplementedError

    def check_shape(self, found: Shape, where: str) -> Shape:
        """The shape with a row for each sample that an array of another shape stands for; a VaectlError if it is not one."""
        raise NotImplementedError

    def check_values(self, rows: NDArray[Any], where: str, start: int) -> Array:
        """The rows of an array from `start` as float32; a VaectlError if they are out of range."""
        return resize.to_pixels(rows, where, start)

    def row(self, name: str, row: Array) -> Sample:
        """Take a row of an array whose shape and values were checked."""
        return Sample(name, row)


@dataclass(frozen=True)
class ImageDecoder(Decoder):
    """Images of the size and the channels of a spec, as float32 in [0, 1]; arrays must have its shape."""

    spec: ResizeSpec

    def decode(self, name: str, where: str, data: bytes) -> Sample:
        pixels = codecs.decode_resized(data, where, self.spec)
        return Sample(name, resize.to_pixels(pixels), folder_label(name))

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        return Sample(name, resize.to_pixels(fit_pixels(pixels, self.spec)), label, split)

    def check_shape(self, found: Shape, where: str) -> Shape:
        return resize.stack_shape(found, self.spec.image_shape, where)


@dataclass(frozen=True)
class PhotoDecoder(Decoder):
    """Images at their own sizes, as float32 in [0, 1], with their alpha, if any and wanted, as one more channel.

    Photos are large: they are not gathered into batches, and few are decoded ahead.
    """

    ahead = 1
    batch_size = 1

    channels: int
    with_alpha: bool = True

    def decode(self, name: str, where: str, data: bytes) -> Sample:
        pixels, metadata = codecs.decode_photo(data, where, self.channels)
        return Sample(name, pixels if self.with_alpha else pixels[..., : self.channels], folder_label(name), None, metadata)

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        return Sample(name, resize.convert_channels(resize.to_pixels(pixels), self.channels), label, split)

    def check_shape(self, found: Shape, where: str) -> Shape:
        return resize.photo_stack_shape(found, self.channels, where)

    def row(self, name: str, row: Array) -> Sample:
        return Sample(name, resize.convert_channels(row, self.channels), metadata=Metadata(gray=row.shape[2] == 1))


@dataclass
class LatentDecoder(Decoder):
    """Latents of one dimension, which the first one determines unless it is given; images are encoded if `encode` is given."""

    ahead = 0  # the model runs in one thread

    latent_dim: int | None
    encode: Callable[[Image.Image], Array] | None = None

    def check_dim(self, found: int | None, what: str) -> None:
        """Raise a VaectlError that begins with `what`, if latents of this dimension are not expected."""
        if found == 0:
            raise VaectlError(f"{what}: latents have at least one dimension")
        self.latent_dim = self.latent_dim or found
        if found is None or found != self.latent_dim:
            expected = f"latents of shape (N, {self.latent_dim or 'D'}) are expected"
            raise VaectlError(f"{what}: {expected}: encode with the same checkpoint")

    def check_format(self, format: str, where: str) -> None:
        if self.encode:
            super().check_format(format, where)
            return
        table = "write them with vaectl encode (a CSV begins with the line name,z0,z1,...)"
        advice = "run vaectl encode on it first" if format in READABLE_FORMATS else table
        raise VaectlError(f"{describe_content(format, where)}: latents (NPY or CSV) are expected: {advice}")

    def task(self, name: str, where: str, data: bytes) -> Task:
        try:
            image = codecs.decode_image(data, where)
        except VaectlError as error:
            return error
        return self.encode_image(name, image)

    def convert(self, name: str, pixels: NDArray[Any], label: str | None, split: str | None) -> Sample:
        return self.encode_image(name, resize.from_uint8(pixels))

    def encode_image(self, name: str, image: Image.Image) -> Sample:
        """The latent of an image."""
        if not self.encode:
            raise VaectlError(f"{name} is an image: latents (NPY or CSV) are expected: run vaectl encode on it first")
        z = self.encode(image)
        self.check_dim(len(z), f"{name} has a latent of shape {z.shape}")
        return Sample(name, z)

    def check_shape(self, found: Shape, where: str) -> Shape:
        self.check_dim(found[-1] if len(found) in (1, 2) else None, f"{where} is an array of shape {found}")
        return (1, *found) if len(found) == 1 else found

    def check_values(self, rows: NDArray[Any], where: str, start: int) -> Array:
        return to_finite(rows, where, start)
