import numpy as np
import pytest

from vaectl.errors import VaectlError
from vaectl.io import pictures


def test_arrays_are_pictures_in_several_shapes() -> None:
    shapes = {(5, 28, 28, 1): 5, (28, 28, 1): 1, (5, 28, 28): 5, (28, 28): 1, (784,): 1, (5, 784): 5, (0, 28, 28): 0}
    for shape, count in shapes.items():
        assert pictures.stack_shape(shape, (28, 28, 1), "x") == (count, 28, 28, 1)
    assert pictures.stack_shape((9, 6, 3), (9, 6, 3), "x") == (1, 9, 6, 3)
    for shape in [(), (5,), (5, 28, 27), (5, 28, 28, 3), (2, 5, 28, 28, 1), (5, 785)]:
        with pytest.raises(VaectlError, match="28 x 28 x 1 are expected"):
            pictures.stack_shape(shape, (28, 28, 1), "x")


def test_whole_numbers_and_fractions_become_pixels() -> None:
    assert pictures.pixels(np.array([0, 255], np.uint8), "x").tolist() == [0, 1]
    assert pictures.pixels(np.array([0, 65535], np.uint16), "x").tolist() == [0, 1]
    assert pictures.pixels(np.array([0, 255], np.int64), "x").tolist() == [0, 1]
    assert pictures.pixels(np.array([False, True]), "x").tolist() == [0, 1]
    assert pictures.pixels(np.array([0.5], np.float16), "x").dtype == np.float32


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf])
def test_pixels_out_of_range_are_told_by_place(value: float) -> None:
    array = np.zeros((3, 2, 2, 1))
    array[1, 0, 1, 0] = value
    with pytest.raises(VaectlError, match=r"x: 1 pixels are not in \[0, 1\], the first at \[8, 0, 1, 0\]"):
        pictures.pixels(array, "x", 7)
