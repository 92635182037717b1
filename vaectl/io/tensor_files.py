"""Safetensors files with JSON under one metadata key; everything read is validated."""

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from vaectl.base.arrays import MAX_FLOAT32
from vaectl.base.errors import VaectlError
from vaectl.base.text import list_names
from vaectl.io import files

T = TypeVar("T")
# The shape and the dtype of each tensor.
Expected = Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

DTYPES: Mapping[type[np.generic], str] = {
    np.float16: "F16",
    np.float32: "F32",
    np.float64: "F64",
    np.uint8: "U8",
}
MAX_HEADER_BYTES = 1 << 20
# Whatever is wrong with a file raises one of these.
CORRUPTION_ERRORS = (ValueError, TypeError, LookupError, OverflowError, RecursionError, safetensors.SafetensorError)


def write(path: str, tensors: Mapping[str, NDArray[Any]], key: str, values: Mapping[str, Any]) -> None:
    """Write `tensors`, and `values` as sorted JSON under `key`, atomically and durably.

    Raises:
        VaectlError: the file cannot be written.
    """
    # safetensors ignores strides: it would save a transposed array in the wrong order.
    contiguous = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    data = safetensors.numpy.save(contiguous, {key: json.dumps(values, sort_keys=True)})
    with files.open_output(path, durable=True) as stream:
        stream.write(data)


def read(
    path: str, key: str, newest: int, parse: Callable[[dict[str, Any]], T], expected: Callable[[T], Expected]
) -> tuple[T, dict[str, NDArray[Any]]]:
    """Read a file that `write` wrote: the JSON under `key`, parsed by `parse`, and the tensors that are `expected` for it.

    Its "format" must be a number up to `newest`. The file is read once and never memory-mapped.

    Raises:
        VaectlError: the file cannot be read, or has a newer format.
        CORRUPTION_ERRORS: `write` did not write it.
    """
    with files.open_reader(path) as reader:
        head = reader.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > MAX_HEADER_BYTES or reader.peek(1) != b"{":
            raise ValueError("it is not a safetensors file")
        text = reader.read(length)
        header = json.loads(text, object_pairs_hook=unique_keys)
        values = parse_metadata(header, key)
        format = integers([values["format"]])[0]
        if format > newest:
            raise VaectlError(f"{path!r} has format {format}, newer than this program's {newest}: upgrade vaectl")
        if format < 1:
            raise ValueError(f"it has format {format}")
        parsed = parse(values)
        tensors = expected(parsed)
        check_header(header, tensors)
        data = reader.read(sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in tensors.values()))
        if reader.peek(1):
            raise ValueError("it has bytes after its tensors")
    found = safetensors.numpy.load(head + text + data)
    for name, tensor in found.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"the tensor {name!r} has NaN or infinite values")
    return parsed, found


def parse_metadata(header: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Parse the JSON object under `key` in the metadata."""
    metadata = header.get("__metadata__", {})
    if key not in metadata:
        raise ValueError(f"it has no metadata {key!r}" + (f", only {list_names(list(metadata))}" if metadata else ""))
    values = json.loads(metadata[key], object_pairs_hook=unique_keys)
    if not isinstance(values, dict):
        raise ValueError(f"its metadata {key!r} is not a JSON object")
    return values


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, refusing duplicate keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its JSON has a duplicate key")
    return found


def check_header(header: Mapping[str, Any], expected: Expected) -> None:
    """Raise ValueError unless the header lists exactly the expected tensors."""
    for name in sorted(expected.keys() ^ header.keys() - {"__metadata__"}):
        raise ValueError(f"the tensor {name!r} is {'missing' if name in expected else 'unexpected'}")
    for name, (shape, dtype) in expected.items():
        found, wanted = (header[name]["dtype"], header[name]["shape"]), (DTYPES[dtype], list(shape))
        if found != wanted:
            raise ValueError(f"the tensor {name!r} is {found[0]} {found[1]}, not {wanted[0]} {wanted[1]}")


def check_type(value: Any, kind: type[T]) -> T:
    """The value, or raise ValueError if it is not a `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value


def floats(values: Any) -> list[float]:
    """A list of finite float32 numbers as floats, or raise ValueError."""
    if not all(type(value) in (int, float) and abs(value) <= MAX_FLOAT32 for value in check_type(values, list)):
        raise ValueError("finite numbers in the range of float32 are expected")
    return [float(value) for value in values]


def integers(values: Any) -> list[int]:
    """A list of integers, or raise ValueError."""
    if not all(type(value) is int for value in check_type(values, list)):
        raise ValueError("integers are expected")
    return list(values)
