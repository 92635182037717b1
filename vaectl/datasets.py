"""Pictures to learn from: the bundled MNIST, or arrays in an NPZ or NPY file."""

import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from math import prod

import numpy as np
from numpy.typing import NDArray

from vaectl.errors import VaectlError
from vaectl.io import arrays, files, pictures

Bytes = NDArray[np.uint8]

BUNDLED = "mnist"
HELD_OUT = 10  # one picture in ten, where the data come without a test split


@dataclass(frozen=True)
class Dataset:
    """Pictures (N, H, W, C) as bytes, 0 to 255: those to learn from, and those held out.

    `test` may be empty, where there are too few pictures to hold any out.
    """

    name: str
    train: Bytes
    test: Bytes
    sha256: str

    @property
    def held_out(self) -> Bytes:
        """The pictures to judge by: the test ones, or where there are none, those that were learned from."""
        return self.test if len(self.test) else self.train

    @property
    def held_out_split(self) -> str:
        """The name of the split that `held_out` is."""
        return "test" if len(self.test) else "train"

    def origin(self) -> dict[str, str | int]:
        """Where the pictures come from, as a checkpoint's card keeps it."""
        return {"name": self.name, "sha256": self.sha256, "train": len(self.train), "test": len(self.test)}

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape of one picture, (H, W, C)."""
        return self.train.shape[1:]


def load(name: str) -> Dataset:
    """The data set called `name`: "mnist", `FILE.npz` (x_train, and x_test if there) or `FILE.npy`.

    Without x_test, about a tenth of the pictures is held out, chosen by content: the choice stays when more are added.

    Raises:
        VaectlError: no such data, or no pictures in it.
    """
    if name == BUNDLED:
        with resources.as_file(resources.files("vaectl") / "data" / "mnist.npz") as path:
            return load_file(BUNDLED, str(path))
    if not os.path.exists(name):
        raise VaectlError(f"there is no data set {name!r}: give {BUNDLED!r}, or a .npz or .npy file of pictures")
    return load_file(name, name)


def load_file(name: str, path: str) -> Dataset:
    """A data set from an NPZ or NPY file."""
    with files.opened(path) as reader:
        kind = files.kind_of(reader)
        if kind == "NPZ":
            found = arrays.read_archive(reader)
        elif kind == "NPY":
            header = arrays.read_header(reader)
            whole = arrays.read_items(reader, header, prod(header.shape))
            found = {"x_train": whole.reshape(header.shape, order="F" if header.fortran else "C")}
        else:
            raise VaectlError(f"{path!r} is no data set: give {BUNDLED!r}, or a .npz or .npy file of pictures")
    if "x_train" not in found:
        raise VaectlError(f"{path!r} holds {', '.join(found) or 'nothing'}: name the pictures to learn from x_train")
    train = as_bytes(found["x_train"], f"{path!r}: x_train")
    if "x_test" in found:
        test = as_bytes(found["x_test"], f"{path!r}: x_test")
        if test.shape[1:] != train.shape[1:]:
            raise VaectlError(
                f"{path!r}: x_train has pictures of {train.shape[1:]}, x_test of {test.shape[1:]}: make them one size"
            )
    else:
        train, test = split(train)
    return Dataset(name, train, test, sha256(train, test))


def as_bytes(array: NDArray[np.generic], name: str) -> Bytes:
    """Pictures of any numbers as bytes, (N, H, W, C)."""
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size:
        raise VaectlError(
            f"{name} is an array of {array.shape}: pictures are (N, height, width), or (N, height, width, 3) in colour"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return np.rint(pictures.pixels(array, name) * 255).astype(np.uint8)


def split(whole: Bytes) -> tuple[Bytes, Bytes]:
    """The pictures to learn from, and those held out by their content."""
    held_out = np.array([hashlib.sha256(picture.tobytes()).digest()[0] % HELD_OUT == 0 for picture in whole])
    return (whole, whole[:0]) if held_out.all() else (whole[~held_out], whole[held_out])


def sha256(*parts: Bytes) -> str:
    """One hash over the pictures, however they were stored."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.shape).encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
