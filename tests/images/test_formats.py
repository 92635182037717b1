"""The table of image formats."""

from io import BytesIO

import pytest
from PIL import Image

from vaectl.images.formats import FORMATS, IMAGE_FORMATS, READABLE_FORMATS, SUFFIXES, sniff_image_format, stored_format


@pytest.mark.parametrize("format", READABLE_FORMATS)
def test_each_format_that_is_read_is_known_by_its_first_bytes(format: str) -> None:
    Image.new("RGB", (3, 2)).save(buffer := BytesIO(), format)
    assert sniff_image_format(buffer.getvalue()[:12]) == format


@pytest.mark.parametrize("head", [b"", b"RIFF\1\2\3\4WAVE", b"RIFF\1\2\3\4", b"\x89PNG", b"\0\0\0\x20ftypisom"])
def test_other_bytes_are_no_image(head: bytes) -> None:
    assert sniff_image_format(head) is None


def test_each_format_that_is_written_has_a_suffix_of_its_own() -> None:
    assert set(SUFFIXES.values()) == set(IMAGE_FORMATS)
    suffixes = [suffix for format in FORMATS for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.parametrize(("pillow", "name"), [("MPO", "jpg"), ("TIFF", "tif"), ("PNG", "png"), ("GIF", "png"), (None, "png")])
def test_a_photo_is_written_in_its_own_format_where_that_is_possible(pillow: str | None, name: str) -> None:
    assert stored_format(pillow) == name
