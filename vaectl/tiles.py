"""Pictures of any size through a network in tiles, so that memory stays bounded and no seam is left."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vaectl.layers import Conv, Fold, Row, Unfold, Upsample

TILE = 512  # pixels along a side of what comes out of one run


def grain(rows: Sequence[Row]) -> int:
    """The number of pixels of which height and width must be multiples, so that every scale has whole pixels."""
    return max(step for step, _ in sight(rows))


def reach(rows: Sequence[Row]) -> int:
    """How many pixels away, at most, a pixel still bears on what comes out."""
    return sum(seen for _, seen in sight(rows))


def sight(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """After each row, how many pixels of the picture one of its pixels stands for, and by how many its sight grew there."""
    step = 1
    for row in rows:
        seen = 0
        match row:
            case Conv():
                seen = row.size // 2 * step
                step *= row.stride
            case Fold():
                seen = (row.factor - 1) * step
                step *= row.factor
            case Upsample() | Unfold():
                seen = step - step // row.factor
                step //= row.factor
        yield step, seen


def tiled(run: Callable[[Any], Any], rows: Sequence[Row], pictures: Any, tile: int = TILE) -> Any:
    """What `run`, which is `rows` on a batch, makes of pictures, (N, H, W, C), of any size; NumPy's or torch's.

    Each tile is run with as much around it as bears on it, so that it comes out as it would in one run of the whole. Pictures
    whose sides are no multiples of the rows' grain are continued by their mirror image.
    """
    height, width = pictures.shape[1:3]
    step = grain(rows)
    margin = -(-reach(rows) // step) * step
    tile = -(-tile // step) * step
    result = pictures + 0  # a place for what comes out; every pixel is written
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            down, first = window(top, tile, margin, height, step)
            right, second = window(left, tile, margin, width, step)
            made = run(pictures[:, down][:, :, right])
            bottom, end = min(top + tile, height), min(left + tile, width)
            result[:, top:bottom, left:end] = made[:, top - first : bottom - first, left - second : end - second]
    return result


def window(start: int, tile: int, margin: int, length: int, step: int) -> tuple[list[int], int]:
    """The places along one side, of `length`, that the tile from `start` is made from, and the first of them.

    They are a multiple of `step`; beyond the end they go back as in a mirror.
    """
    first = max(0, start - margin)
    last = min(start + tile + margin, -(-length // step) * step)
    return [mirrored(place, length) for place in range(first, last)], first


def mirrored(place: int, length: int) -> int:
    """A place along a side, where what lies beyond its end is its mirror image."""
    turned = place % (2 * length)
    return min(turned, 2 * length - 1 - turned)
