from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from vaectl.errors import VaectlError
from vaectl.io import streams
from vaectl.io.files import Reader


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def test_pngs_are_split_where_they_end() -> None:
    one, two = saved(Image.new("L", (3, 3), 10)), saved(Image.new("L", (4, 4), 20))
    reader = Reader(BytesIO(one + two), "stdin")
    assert streams.read_png(reader) == one
    assert streams.read_png(reader) == two
    with pytest.raises(VaectlError, match="ends within a PNG"):
        streams.read_png(Reader(BytesIO(one[:-5]), "stdin"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP"])
def test_the_end_of_a_picture_is_found_among_what_follows(format: str, options: dict[str, bool]) -> None:
    exif = Image.Exif()
    exif[270] = "a note with \xff\xd9 in it"
    data = saved(Image.effect_noise((40, 30), 80).convert("RGB"), format, exif=exif, **options)
    assert streams.end_of(data + data + b"more", format) == len(data)
    assert streams.end_of(data, format) == len(data)
