"""What the file of an image says beside its pixels: format, depth, color profile, EXIF, XMP and resolution."""

import struct
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from vaectl.images.formats import stored_format

EXIF_PREFIX = b"Exif\0\0"
COLOR_SPACES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}  # of ICC profiles, by mode
MAX_SEGMENT = 65_500  # bytes of EXIF or XMP that fit into a segment of a JPEG
MAX_DPI = 65_535
XMP_TAG = 700
# What the EXIF of a TIFF holds beside the tags that describe its pixels.
DESCRIPTIVE = tuple(
    int(getattr(ExifTags.Base, name))
    for name in ("ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "Copyright")
)
DIRECTORIES = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
SHORT = 3  # the type of EXIF's orientation


@dataclass(frozen=True)
class Metadata:
    """The format of the file by its name, the bits per value, whether it is gray, and what else the file holds.

    EXIF begins with "Exif" and two zeros, and says that the image is upright; `dpi` is the horizontal and vertical resolution;
    `comment` is that of a JPEG.
    """

    format: str = "png"
    bits: int = 8
    gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None

    @property
    def has_any(self) -> bool:
        """Whether the file holds anything beside its pixels."""
        return any((self.icc_profile, self.exif, self.xmp, self.dpi, self.comment))


def read_metadata(image: Image.Image) -> Metadata:
    """The metadata of an image that Pillow has opened, but not turned yet; damaged ones are left out."""
    return Metadata(
        format=stored_format(image.format),
        icc_profile=as_bytes(image.info.get("icc_profile")),
        exif=read_exif(image),
        xmp=as_bytes(image.info.get("xmp")),
        dpi=read_dpi(image.info.get("dpi")),
        comment=as_bytes(image.info.get("comment")) if image.format == "JPEG" else None,
    )


def read_exif(image: Image.Image) -> bytes | None:
    """The EXIF of an image, with an upright orientation."""
    if image.format == "TIFF":
        found, kept = image.getexif(), Image.Exif()
        kept.update({tag: found[tag] for tag in DESCRIPTIVE if tag in found})
        kept.update({tag: directory for tag in DIRECTORIES if (directory := found.get_ifd(tag))})
        try:
            return kept.tobytes() if len(kept) else None
        except Exception:  # Pillow writes not all that it reads
            return None
    exif = as_bytes(image.info.get("exif"))
    return set_upright(exif) if exif else None


def as_bytes(value: Any) -> bytes | None:
    """The value, if it is bytes and not empty; in damaged files it may be anything."""
    return value if isinstance(value, bytes) and value else None


def set_upright(exif: bytes) -> bytes | None:
    """EXIF with an orientation of 1 and all else as it was; None if it is damaged."""
    tiff = bytearray(exif.removeprefix(EXIF_PREFIX))
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == ExifTags.Base.Orientation and kind == SHORT:
                struct.pack_into(f"{order}H", tiff, entry + 8, 1)
    except struct.error:
        return None
    return EXIF_PREFIX + bytes(tiff)


def read_dpi(dpi: Any) -> tuple[float, float] | None:
    """The resolution, if it is one."""
    try:
        horizontal, vertical = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if all(0 < value <= MAX_DPI for value in (horizontal, vertical)) else None


def save_options(metadata: Metadata, mode: str) -> dict[str, Any]:
    """Pillow's options that write the metadata into an image of this mode; those the format has no place for are left out."""
    options: dict[str, Any] = {}
    profile = metadata.icc_profile
    if profile and profile[16:20] == COLOR_SPACES.get(mode):
        options["icc_profile"] = profile
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    exif, xmp = metadata.exif, metadata.xmp
    if metadata.format == "jpg":
        exif, xmp, comment = (part if part and len(part) <= MAX_SEGMENT else None for part in (exif, xmp, metadata.comment))
        options |= {"comment": comment} if comment else {}
    if metadata.format == "tif":
        tags = Image.Exif()
        if exif:
            tags.load(exif)
        tags.pop(ExifTags.Base.Orientation, None)
        if xmp:
            tags[XMP_TAG] = xmp
        return options | ({"tiffinfo": tags} if len(tags) else {})
    if exif:
        options["exif"] = exif
    if xmp and metadata.format == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        options["pnginfo"] = chunks
    elif xmp:
        options["xmp"] = xmp
    return options
