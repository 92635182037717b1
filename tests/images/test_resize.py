from typing import get_args

import numpy as np
import pytest

from vaectl.base.errors import VaectlError
from vaectl.images import resize
from vaectl.images.aspect_ratio import FITS, Fit


def test_arrays_of_images_may_be_single_flat_or_without_channels() -> None:
    shapes = {(5, 28, 28, 1): 5, (28, 28, 1): 1, (5, 28, 28): 5, (28, 28): 1, (784,): 1, (5, 784): 5, (0, 28, 28): 0}
    for shape, count in shapes.items():
        assert resize.stack_shape(shape, (28, 28, 1), "x") == (count, 28, 28, 1)
    assert resize.stack_shape((9, 6, 3), (9, 6, 3), "x") == (1, 9, 6, 3)
    for shape in [(), (5,), (5, 28, 27), (5, 28, 28, 3), (2, 5, 28, 28, 1), (5, 785)]:
        with pytest.raises(VaectlError, match=r"images of shape \(N, 28, 28, 1\), channels last, are expected"):
            resize.stack_shape(shape, (28, 28, 1), "x")


def test_integers_are_scaled_to_0_to_1() -> None:
    assert resize.to_pixels(np.array([0, 255], np.uint8), "x").tolist() == [0, 1]
    assert resize.to_pixels(np.array([0, 65535], np.uint16), "x").tolist() == [0, 1]
    assert resize.to_pixels(np.array([0, 255], np.int64), "x").tolist() == [0, 1]
    assert resize.to_pixels(np.array([False, True]), "x").tolist() == [0, 1]
    assert resize.to_pixels(np.array([0.5], np.float16), "x").dtype == np.float32


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf])
def test_pixels_out_of_range_are_refused_with_their_index(value: float) -> None:
    array = np.zeros((3, 2, 2, 1))
    array[1, 0, 1, 0] = value
    with pytest.raises(VaectlError, match=r"x: 1 pixels are not in \[0, 1\], the first at \[8, 0, 1, 0\]"):
        resize.to_pixels(array, "x", 7)


def test_every_fit_that_can_be_named_is_in_the_table() -> None:
    assert get_args(Fit) == tuple(FITS)
