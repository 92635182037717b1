import io
import json
import os
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Result, rewritten, write_png

from vaectl import checkpoint
from vaectl.errors import VaectlError

Call = Callable[..., Result]
Fails = Callable[..., str]


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch canary",))


def torch_file() -> bytes:
    """What torch.save writes: a pickle in an archive."""
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary()))
    return stream.getvalue()


@pytest.mark.fault(1)
@pytest.mark.parametrize("verb", ["info", "grid", "encode"])
@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n", b"\x89PNG\r\n\x1a\n" + bytes(99), pickle.dumps(Canary()), torch_file(), b"\x93NUMPY\x01\x00"],
    ids=["empty", "text", "PNG", "pickle", "torch", "NPY"],
)
def test_something_else_is_no_checkpoint(verb: str, data: bytes, fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(data)
    fails(verb, "-c", "m.pt", words=("'m.pt' is no checkpoint of vaectl", "vaectl train"))


@pytest.mark.fault(1)
def test_a_folder_is_no_checkpoint(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").mkdir()
    fails("info", "m.safetensors", words=("'m.safetensors': is a directory",))


@pytest.mark.fault(2)
@pytest.mark.parametrize("length", [0, 2**64 - 1, 2**63, (1 << 20) + 1, 5000])
def test_a_header_of_absurd_length_is_refused_without_memory(length: int, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(length.to_bytes(8, "little") + data[8:])
    fails("info", tiny.name, words=("is no checkpoint",), memory=32 << 20)


@pytest.mark.fault(2)
def test_a_header_that_is_as_long_as_it_says_and_too_long_is_refused(tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * (1 << 20)
    tiny.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    fails("info", tiny.name, words=("is no checkpoint",))


@pytest.mark.fault(3)
def test_a_checkpoint_cut_at_any_byte_is_refused(tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    for length in range(len(data)):
        tiny.write_bytes(data[:length])
        with pytest.raises(VaectlError, match="is no checkpoint"):
            checkpoint.load(str(tiny))
    fails("info", tiny.name, words=("is no checkpoint",))
    for tail in (b"\0", data):
        tiny.write_bytes(data + tail)
        fails("info", tiny.name, words=("is longer than its tensors",))


def offsets(name: str, begin: int, end: int) -> Callable[[Any, Any], None]:
    """Moves where a tensor begins and ends."""

    def change(card: Any, header: Any) -> None:
        tensor = header[name]["data_offsets"]
        header[name]["data_offsets"] = [tensor[0] + begin, tensor[1] + end]

    return change


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "change",
    [
        offsets("encoder.1.bias", -4, -4),
        offsets("encoder.1.bias", 4, 4),
        offsets("encoder.1.bias", 8, -8),
        offsets("encoder.1.bias", 0, 4),
        offsets("encoder.1.bias", 0, 2**62),
        offsets("encoder.1.bias", -(2**62), 0),
    ],
)
def test_tensors_that_overlap_or_leave_holes_are_refused(change: object, tiny: Path, fails: Fails) -> None:
    rewritten(tiny, change)
    fails("info", tiny.name, words=("is no checkpoint",))


def set_row(index: int, **sizes: object) -> Callable[[Any, Any], None]:
    """Changes a row of the decoder."""
    return lambda card, header: card["network"]["decoder"][index].update(sizes)


@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "change",
    [
        lambda card, header: header["__metadata__"].clear(),
        lambda card, header: card.clear(),
        lambda card, header: card.update(network=[]),
        lambda card, header: card.update(beta=10**400),
        lambda card, header: card.update(format="1"),
        lambda card, header: card.update(fit="bend"),
        lambda card, header: card["network"].update(latent=10**30),
        lambda card, header: card["network"].update(picture=[2**40, 2**40, 1]),
        lambda card, header: card["network"]["decoder"].__setitem__(slice(-1, -1), [{"layer": "silu"}] * 1001),
        lambda card, header: card["network"]["decoder"].insert(-1, {"layer": "upsample", "factor": True}),
        lambda card, header: card["network"]["decoder"].insert(-1, {"layer": "upsample", "factor": 1.0}),
        lambda card, header: card["network"]["decoder"].insert(-1, {"layer": "upsample", "factor": 2**30}),
        lambda card, header: card["network"]["decoder"].insert(0, {"layer": "torch.load"}),
        set_row(0, outputs=2**30),
        set_row(0, outputs=10**30),
        set_row(0, outputs=-2),
        set_row(0, outputs=2.0),
        set_row(0, outputs="2"),
        set_row(0, outputs=True),
    ],
)
def test_a_card_that_will_not_do_is_refused(change: object, tiny: Path, fails: Fails) -> None:
    rewritten(tiny, change)
    fails("grid", "-c", tiny.name, words=("is no checkpoint",))


@pytest.mark.fault(4)
def test_a_picture_as_large_as_memory_from_two_weights_is_refused(tiny: Path, fails: Fails) -> None:
    def vast(card: Any, header: Any) -> None:
        side = 40_000
        card["network"].update(
            picture=[side, side, 1],
            latent=1,
            encoder=[{"layer": "crop", "height": 1, "width": 1}, {"layer": "flatten"}],
            decoder=[
                {"layer": "reshape", "height": 1, "width": 1, "channels": 1},
                {"layer": "upsample", "factor": side},
                {"layer": "sigmoid"},
            ],
        )

    rewritten(tiny, vast)
    fails("grid", "-c", tiny.name, words=("is no checkpoint", "larger than"))


@pytest.mark.fault(4)
@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '"x"', '{"format": 1, "format": 1}', "[" * 100_000])
def test_a_card_of_broken_json_is_refused(text: str, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["vaectl"] = text
    for new in (json.dumps(header), "{" + json.dumps(header)[1:-1] + "," + json.dumps(header)[1:], "[" * 5000):
        tiny.write_bytes(len(new).to_bytes(8, "little") + new.encode() + data[8 + length :])
        fails("info", tiny.name, words=("is no checkpoint",))


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card, header: header.update({"extra": header.pop("encoder.1.bias")}), "'encoder.1.bias' is missing"),
        (
            lambda card, header: header["encoder.1.bias"].update(shape=[2, 1]),
            "'encoder.1.bias' is F32 [2, 1], and",
        ),
        (lambda card, header: header["encoder.1.bias"].update(dtype="I32"), "'encoder.1.bias' is I32"),
        (lambda card, header: header["encoder.1.bias"].update(dtype="BF16", shape=[4]), "'encoder.1.bias' is BF16"),
    ],
)
def test_a_tensor_that_will_not_do_is_named(change: object, words: str, tiny: Path, fails: Fails) -> None:
    rewritten(tiny, change)
    fails("info", tiny.name, words=(words,))


@pytest.mark.fault(5)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named(value: float, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(data[:-4] + np.float32(value).tobytes())
    fails("info", tiny.name, words=("holds NaN or infinity", "the tensor 'encoder."))


@pytest.mark.fault(6)
def test_a_newer_format_asks_for_a_newer_program(tiny: Path, fails: Fails) -> None:
    rewritten(tiny, lambda card, header: card.update(format=2, network={"as": "yet unknown"}))
    fails("info", tiny.name, words=("format 2", "upgrade vaectl"))


@pytest.mark.fault(7)
def test_a_checkpoint_that_ends_while_it_is_read_is_told(tiny: Path, fails: Fails, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for length in (3, 100, len(data) - 1):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data[:length],))
        writer.start()
        fails("info", "pipe", words=("'pipe' is no checkpoint",))
        writer.join()


@pytest.mark.fault(8)
def test_a_model_that_cannot_is_told_with_one_that_can(fails: Fails, ae: Path, vae: Path, tmp_path: Path) -> None:
    png = write_png(tmp_path / "a.png", np.zeros((28, 28), np.uint8))
    fails("sample", "-c", ae, words=("use a vae",))
    fails("denoise", "-c", vae, words=("use a dae",))
    fails("encode", png, "--sample", "-c", ae, words=("use a vae",))


@pytest.mark.fault(4)
def test_a_card_does_not_write_to_a_terminal_what_it_likes(run: Call, tiny: Path) -> None:
    def change(values: dict[str, Any], header: dict[str, Any]) -> None:
        values["data"] = {"name": "\x1b[2J\ud800"}

    rewritten(tiny, change)
    said = run("info", tiny).stdout
    assert b"\\x1b[2J\\xd800" in said and b"\x1b" not in said
