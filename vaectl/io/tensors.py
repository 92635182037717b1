"""A safetensors file and the JSON it carries under one metadata key; nothing in it is believed before it has been checked."""

import json
from collections.abc import Callable, Mapping
from math import isfinite, prod
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from vaectl.io import files

T = TypeVar("T")
Tensors = Mapping[str, NDArray[Any]]
# The shape and the type of each tensor that is due.
Due = Mapping[str, tuple[tuple[int, ...], type[np.generic]]]

CODES: Mapping[type[np.generic], str] = {np.float32: "F32", np.float64: "F64", np.uint8: "U8"}
LONGEST_HEADER = 1 << 20
# Whatever is wrong with such a file is one of these.
DAMAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError, safetensors.SafetensorError)


def write(path: str, tensors: Tensors, key: str, values: Mapping[str, Any]) -> None:
    """Write the tensors, and `values` as sorted JSON under `key`, to `path`, whole or not at all, and safe from a power cut.

    Raises:
        VaectlError: the file cannot be written.
    """
    # safetensors takes memory as it lies, so that a transposed array would be saved wrong without a word.
    straight = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    data = safetensors.numpy.save(straight, {key: json.dumps(values, sort_keys=True)})
    with files.written(path, durable=True) as stream:
        stream.write(data)


def read(path: str, key: str, parse: Callable[[dict[str, Any]], T], due: Callable[[T], Due]) -> tuple[T, dict[str, NDArray[Any]]]:
    """What `parse` makes of the JSON under `key`, and the tensors, which must be those that are `due` by it.

    The file is read once and never mapped.

    Raises:
        VaectlError: the file cannot be read.
        DAMAGE: it is anything else than `write` wrote.
    """
    with files.opened(path) as reader:
        head = reader.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > LONGEST_HEADER or reader.peek(1) != b"{":
            raise ValueError("it is no safetensors file")
        header = reader.read(length)
        found = json.loads(header, object_pairs_hook=unique)
        parsed = parse(json_in(found, key))
        expected = due(parsed)
        check(found, expected)
        payload = reader.read(sum(prod(shape) * np.dtype(kind).itemsize for shape, kind in expected.values()))
        if reader.peek(1):
            raise ValueError("it is longer than its tensors")
    tensors = safetensors.numpy.load(head + header + payload)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"the tensor {name!r} holds NaN or infinity")
    return parsed, tensors


def json_in(header: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The JSON object under `key` in the metadata of a header."""
    metadata = header.get("__metadata__", {})
    if key not in metadata:
        raise ValueError(f"it has no metadata {key!r}" + "".join(f", but {other!r}" for other in list(metadata)[:3]))
    values = json.loads(metadata[key], object_pairs_hook=unique)
    if not isinstance(values, dict):
        raise ValueError(f"its metadata {key!r} are no JSON object")
    return values


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys must differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in its JSON")
    return found


def check(header: Mapping[str, Any], due: Due) -> None:
    """Raise ValueError unless a header tells of the tensors that are due, before any of them is read."""
    for name in sorted(due.keys() ^ header.keys() - {"__metadata__"}):
        raise ValueError(f"the tensor {name!r} is {'missing' if name in due else 'one too many'}")
    for name, (shape, kind) in due.items():
        found, expected = (header[name]["dtype"], header[name]["shape"]), (CODES[kind], list(shape))
        if found != expected:
            raise ValueError(f"the tensor {name!r} is {found[0]} {found[1]}, and {expected[0]} {expected[1]} is due")


def typed(value: Any, kind: type[T]) -> T:
    """The value, which must be of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} stands where a {kind.__name__} is due")
    return value


def numbers(values: Any) -> list[float]:
    """A list of finite numbers."""
    if not all(isinstance(value, int | float) and isfinite(value) for value in typed(values, list)):
        raise ValueError("something stands where finite numbers are due")
    return [float(value) for value in values]


def whole_numbers(values: Any) -> list[int]:
    """A list of whole numbers."""
    if not all(type(value) is int for value in typed(values, list)):
        raise ValueError("something stands where whole numbers are due")
    return list(values)
