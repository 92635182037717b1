"""Runs a network on images of any size in overlapping tiles, with bounded memory and without seams."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaectl.models.layers import Conv2d, Layer, PixelShuffle, PixelUnshuffle

TILE_SIZE = 512  # output pixels per side


def required_multiple(layers: Sequence[Layer]) -> int:
    """The number that height and width must be multiples of, so that every scale has whole pixels."""
    return max(stride for stride, _ in receptive_fields(layers))


def receptive_radius(layers: Sequence[Layer]) -> int:
    """The largest distance, in pixels, at which an input pixel can affect an output pixel."""
    return sum(growth for _, growth in receptive_fields(layers))


def receptive_fields(layers: Sequence[Layer]) -> Iterator[tuple[int, int]]:
    """The stride after each layer and how much the layer adds to the receptive radius, both in image pixels."""
    stride = 1
    for layer in layers:
        growth = 0
        match layer:
            case Conv2d():
                growth = layer.kernel_size // 2 * stride
                stride *= layer.stride
            case PixelUnshuffle(factor):
                growth = (factor - 1) * stride
                stride *= factor
            case PixelShuffle(factor):
                growth = stride - stride // factor
                stride //= factor
        yield stride, growth


def run_tiled(forward: Callable[[Any], Any], layers: Sequence[Layer], images: Any, tile_size: int = TILE_SIZE) -> Any:
    """Run `forward`, which computes `layers`, on images of any size, (N, H, W, C), as NumPy arrays or torch tensors.

    Each tile includes a margin of the receptive radius, so the result equals that of a single run. Images whose sides are
    not multiples of `required_multiple` are padded by reflection.
    """
    height, width = images.shape[1:3]
    multiple = required_multiple(layers)
    margin = -(-receptive_radius(layers) // multiple) * multiple
    tile_size = -(-tile_size // multiple) * multiple
    result = images + 0  # allocates the output; every pixel is overwritten
    for top in range(0, height, tile_size):
        for left in range(0, width, tile_size):
            rows = padded_range(top, tile_size, margin, height, multiple)
            columns = padded_range(left, tile_size, margin, width, multiple)
            output = forward(images[:, reflect(rows, height)][:, :, reflect(columns, width)])
            bottom, right = min(top + tile_size, height), min(left + tile_size, width)
            output = output[:, top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
            result[:, top:bottom, left:right] = output
    return result


def padded_range(start: int, tile_size: int, margin: int, size: int, multiple: int) -> range:
    """The pixels along one side that a tile reads, which may end beyond `size` to fill a multiple."""
    return range(max(0, start - margin), min(start + tile_size + margin, -(-size // multiple) * multiple))


def reflect(indices: range, size: int) -> list[int]:
    """The indices as a list; those beyond `size` are reflected at the edge."""
    period = 2 * size
    return [min(index % period, period - 1 - index % period) for index in indices]
