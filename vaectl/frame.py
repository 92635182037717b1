"""What pictures are brought to before a network sees them."""

from dataclasses import dataclass

from vaectl.layers import Shape

FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Frame:
    """A shape, (H, W, C), and how pictures of other sizes fill it.

    `fit` is "crop", the largest part around the centre that has the frame's proportions; "pad", the whole, between black bars; or
    "stretch", the whole, out of proportion.

    Raises:
        ValueError: another fit.
    """

    shape: Shape
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"{self.fit!r} is no way to fit pictures; there are {', '.join(FITS)}")
