from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from vaectl.base.errors import VaectlError
from vaectl.io import streams
from vaectl.io.files import PeekableReader


def save(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def test_consecutive_pngs_are_split() -> None:
    one, two = save(Image.new("L", (3, 3), 10)), save(Image.new("L", (4, 4), 20))
    reader = PeekableReader(BytesIO(one + two), "stdin")
    assert streams.read_png(reader) == one
    assert streams.read_png(reader) == two
    with pytest.raises(VaectlError, match="truncated PNG"):
        streams.read_png(PeekableReader(BytesIO(one[:-5]), "stdin"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP"])
def test_the_end_of_an_image_is_found_whatever_follows(format: str, options: dict[str, bool]) -> None:
    exif = Image.Exif()
    exif[270] = "a note with \xff\xd9 in it"
    data = save(Image.effect_noise((40, 30), 80).convert("RGB"), format, exif=exif, **options)
    assert streams.find_image_end(data + data + b"more", format, "x") == len(data)
    assert streams.find_image_end(data, format, "x") == len(data)


def test_the_first_chunk_of_a_png_is_its_header_and_no_other_is() -> None:
    data = save(Image.new("L", (3, 3)))
    header, rest = data[8:33], data[33:]
    for wrong in (rest, header + header + rest, rest[:-12] + header + rest[-12:]):
        with pytest.raises(VaectlError, match="bad PNG chunk"):
            streams.read_png(PeekableReader(BytesIO(data[:8] + wrong), "stdin"))
