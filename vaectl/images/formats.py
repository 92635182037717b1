"""The image formats: one row each, from which options, completion, messages, reading and writing follow.

This module imports neither NumPy nor Pillow, so that `--help` and completion stay fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_IMAGE_BYTES = 1 << 29
MAX_PIXELS = 89_478_485  # where Pillow itself warns: 256 MB at 24 bits


@dataclass(frozen=True)
class ImageFormat:
    """An image format, and what vaectl does with it.

    `name` is what `--format` takes, `label` what people say, `pillow` Pillow's name. A file is recognized by its first bytes, one
    of `signatures`, where ? is any byte. `writes_still` and `is_animated` say what is written, `bits` is the largest depth, and
    `save_options` are Pillow's.
    """

    name: str
    label: str
    pillow: str
    suffixes: tuple[str, ...]
    signatures: tuple[bytes, ...] = ()
    is_readable: bool = True
    writes_still: bool = False
    writes_animation: bool = False
    has_alpha: bool = True
    bits: int = 8
    save_options: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, head: bytes) -> bool:
        """Whether a file that begins with `head` has this format."""
        return any(
            len(head) >= len(signature)
            and all(wanted in (found, ord("?")) for found, wanted in zip(head, signature, strict=False))
            for signature in self.signatures
        )


FORMATS = (
    ImageFormat("png", "PNG", "PNG", (".png",), (b"\x89PNG\r\n\x1a\n",), writes_still=True, bits=16),
    ImageFormat(
        "jpg",
        "JPEG",
        "JPEG",
        (".jpg", ".jpeg"),
        (b"\xff\xd8\xff",),
        writes_still=True,
        has_alpha=False,
        save_options={"quality": 95, "subsampling": 0},
    ),
    ImageFormat(
        "webp",
        "WebP",
        "WEBP",
        (".webp",),
        (b"RIFF????WEBP",),
        writes_still=True,
        writes_animation=True,
        save_options={"lossless": True},
    ),
    ImageFormat("tif", "TIFF", "TIFF", (".tif", ".tiff"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), writes_still=True, bits=16),
    ImageFormat("gif", "GIF", "GIF", (".gif",), (b"GIF87a", b"GIF89a"), writes_animation=True),
    ImageFormat("apng", "APNG", "PNG", (".apng",), writes_animation=True),  # read as PNG
    ImageFormat("bmp", "BMP", "BMP", (".bmp",), (b"BM",)),
    # What phones write, and vaectl does not read.
    ImageFormat("heic", "HEIC", "HEIC", (), (b"????ftypheic", b"????ftypheix", b"????ftypmif1"), is_readable=False),
    ImageFormat("avif", "AVIF", "AVIF", (), (b"????ftypavif",), is_readable=False),
)

BY_NAME = {format.name: format for format in FORMATS}
# Those that are recognized, by Pillow's names.
READABLE_FORMATS = tuple(format.pillow for format in FORMATS if format.is_readable and format.signatures)
UNREADABLE_FORMATS = tuple(format.pillow for format in FORMATS if not format.is_readable)
READABLE_LABELS = ", ".join(format.label for format in FORMATS if format.is_readable and format.signatures)
IMAGE_SUFFIXES = tuple(suffix for format in FORMATS for suffix in format.suffixes)
# Those that are written, by the names that --format takes.
STILL_FORMATS = tuple(format.name for format in FORMATS if format.writes_still)
ANIMATED_FORMATS = tuple(format.name for format in FORMATS if format.writes_animation)
IMAGE_FORMATS = tuple(format.name for format in FORMATS if format.writes_still or format.writes_animation)
SUFFIXES = {suffix: format.name for format in FORMATS for suffix in format.suffixes if format.name in IMAGE_FORMATS}


def sniff_image_format(head: bytes) -> str | None:
    """Pillow's name of the format of a file that begins with `head`, if it is one of these."""
    return next((format.pillow for format in FORMATS if format.matches(head)), None)


def stored_format(pillow: str | None) -> str:
    """The name of the format in which an image that Pillow has opened is written again: its own if it can be, else png."""
    name = "JPEG" if pillow == "MPO" else pillow  # a JPEG with more images behind it
    return next((format.name for format in FORMATS if format.pillow == name and format.writes_still), "png")
