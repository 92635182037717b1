import numpy as np

from vaectl.images import sheets


def test_a_sheet_is_one_row_up_to_20_images_and_near_square_beyond() -> None:
    assert sheets.make_sheet(np.ones((20, 2, 3, 1), np.float32)).shape == (2, 60, 1)
    assert sheets.make_sheet(np.ones((21, 2, 3, 1), np.float32)).shape == (10, 15, 1)
    images = np.arange(3, dtype=np.float32)[:, None, None, None]
    assert sheets.make_sheet(images, 2)[..., 0].tolist() == [[0, 1], [2, 0]]


def test_upscaled_pixels_are_squares() -> None:
    image = np.array([[[[0.0], [1.0]]]], np.float32)
    assert sheets.upscale(image, 2)[0, ..., 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_images_are_padded_to_a_common_size_with_transparent_black() -> None:
    opaque, transparent = np.full((1, 2, 1), 0.5, np.float32), np.full((2, 1, 2), 0.25, np.float32)
    stack = sheets.pad_to_common_size([opaque, transparent])
    assert stack[0].tolist() == [[[0.5, 1], [0.5, 1]], [[0, 0], [0, 0]]]
    assert stack[1].tolist() == [[[0.25, 0.25], [0, 0]], [[0.25, 0.25], [0, 0]]]
