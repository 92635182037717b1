import numpy as np

from vaectl.io import sheets


def test_a_sheet_is_a_row_up_to_twenty_and_near_square_beyond() -> None:
    assert sheets.sheet(np.ones((20, 2, 3, 1), np.float32)).shape == (2, 60, 1)
    assert sheets.sheet(np.ones((21, 2, 3, 1), np.float32)).shape == (10, 15, 1)
    numbered = np.arange(3, dtype=np.float32)[:, None, None, None]
    assert sheets.sheet(numbered, 2)[..., 0].tolist() == [[0, 1], [2, 0]]


def test_enlarged_pixels_are_squares() -> None:
    picture = np.array([[[[0.0], [1.0]]]], np.float32)
    assert sheets.enlarge(picture, 2)[0, ..., 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
