import io
import json
import os
import pickle
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES, TINY_PRIOR, Edit, Result, edit_safetensors, write_png, write_tiny_checkpoint

from vaectl.base.errors import VaectlError
from vaectl.images.noise import Expert
from vaectl.models import checkpoint

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


@pytest.mark.parametrize("command", ["info", "grid", "encode"])
@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n", b"\x89PNG\r\n\x1a\n" + bytes(99), pickle.dumps(Canary()), torch_file(), b"\x93NUMPY\x01\x00"],
    ids=["empty", "text", "PNG", "pickle", "torch", "NPY"],
)
def test_a_file_that_is_not_a_checkpoint_is_refused(command: str, data: bytes, fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(data)
    fails(command, "-c", "m.pt", words=("'m.pt' is not a vaectl checkpoint", "vaectl train"))


def test_a_folder_is_not_a_checkpoint(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").mkdir()
    fails("info", "m.safetensors", words=("'m.safetensors': is a directory",))


@pytest.mark.parametrize("length", [0, 2**64 - 1, 2**63, (1 << 20) + 1, 5000])
def test_an_absurd_header_length_is_refused_before_memory_is_allocated(length: int, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(length.to_bytes(8, "little") + data[8:])
    fails("info", tiny.name, words=("is not a vaectl checkpoint",), memory=32 << 20)


def test_a_complete_header_over_the_limit_is_refused(tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length] + b" " * (1 << 20)
    tiny.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    fails("info", tiny.name, words=("is not a vaectl checkpoint",))


def test_a_checkpoint_truncated_at_any_byte_or_with_trailing_bytes_is_refused(tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    for length in range(len(data)):
        tiny.write_bytes(data[:length])
        with pytest.raises(VaectlError, match="is not a vaectl checkpoint"):
            checkpoint.load(str(tiny))
    fails("info", tiny.name, words=("is not a vaectl checkpoint",))
    for tail in (b"\0", data):
        tiny.write_bytes(data + tail)
        fails("info", tiny.name, words=("it has bytes after its tensors",))


def move_offsets(name: str, begin: int, end: int) -> Edit:
    """Moves where a tensor begins and ends."""

    def edit(card: Any, header: Any) -> None:
        offsets = header[name]["data_offsets"]
        header[name]["data_offsets"] = [offsets[0] + begin, offsets[1] + end]

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        move_offsets("encoder.1.bias", -4, -4),
        move_offsets("encoder.1.bias", 4, 4),
        move_offsets("encoder.1.bias", 8, -8),
        move_offsets("encoder.1.bias", 0, 4),
        move_offsets("encoder.1.bias", 0, 2**62),
        move_offsets("encoder.1.bias", -(2**62), 0),
    ],
)
def test_tensors_that_overlap_or_leave_holes_are_refused(edit: Edit, tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, edit)
    fails("info", tiny.name, words=("is not a vaectl checkpoint",))


def set_layer(index: int, **sizes: object) -> Edit:
    """Changes the sizes of a layer of the decoder."""
    return lambda card, header: card["network"]["decoder"][index].update(sizes)


def insert_layer(index: int, *layers: dict[str, object]) -> Edit:
    """Inserts layers into the decoder."""
    return lambda card, header: card["network"]["decoder"].__setitem__(slice(index, index), layers)


@pytest.mark.parametrize(
    "edit",
    [
        lambda card, header: header["__metadata__"].clear(),
        lambda card, header: card.clear(),
        lambda card, header: card.update(network=[]),
        lambda card, header: card.update(beta=10**400),
        lambda card, header: card.update(format="1"),
        lambda card, header: card.update(format=0),
        lambda card, header: card.update(fit="bend"),
        lambda card, header: card.update(training="abc"),
        lambda card, header: card["network"].update(decoder={"layer": "sigmoid"}),
        lambda card, header: card["network"]["decoder"].clear(),
        lambda card, header: card["network"].update(latent_dim=10**30),
        lambda card, header: card["network"].update(latent_dim=True),
        lambda card, header: card["network"].update(image_shape=[2**40, 2**40, 1]),
        lambda card, header: card["network"].update(image_shape=[2, 2.0, 1]),
        insert_layer(-1, *[{"layer": "silu"}] * 1001),
        insert_layer(-1, {"layer": "pixel_shuffle", "upscale_factor": True}),
        insert_layer(-1, {"layer": "pixel_shuffle", "upscale_factor": 1.0}),
        insert_layer(-1, {"layer": "pixel_shuffle", "upscale_factor": 2**30}),
        insert_layer(0, {"layer": "torch.load"}),
        insert_layer(0, {"layer": []}),
        set_layer(0, out_features=2**30),
        set_layer(0, out_features=10**30),
        set_layer(0, out_features=-2),
        set_layer(0, out_features=2.0),
        set_layer(0, out_features="2"),
        set_layer(0, out_features=True),
    ],
)
def test_an_invalid_card_is_refused(edit: Edit, tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, edit)
    fails("grid", "-c", tiny.name, words=("is not a vaectl checkpoint",))


def set_stats(value: object, name: str = "std") -> Edit:
    """Changes the latent statistics of one name."""
    return lambda card, header: card["latent_stats"].update({name: [value]})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        *((set_stats(1e300, name), "range of float32") for name in ("mean", "std", "percentile_1", "percentile_99")),
        (set_stats(-1e300), "range of float32"),
        (set_stats(float("nan")), "range of float32"),
        (set_stats(True), "range of float32"),
        (lambda card, header: card.update(likelihood="x"), "its likelihood 'x' is unknown"),
        (lambda card, header: card.update(sigma=-1), "its sigma is -1.0"),
        (lambda card, header: card.update(sigma=0), "its sigma is 0.0"),
        (lambda card, header: card.update(sigma=1e-30), "its sigma is 1e-30"),
        (lambda card, header: card.update(sigma=1e30), "its sigma is 1e+30"),
        (lambda card, header: card.update(sigma=1e300), "range of float32"),
        (lambda card, header: card.update(beta=-1), "its beta is negative"),
        (lambda card, header: card.update(beta=1e300), "range of float32"),
        (lambda card, header: card.update(format=-1), "it has format -1"),
        (lambda card, header: card.update(format=float("nan")), "integers are expected"),
        (lambda card, header: card.update(format=True), "integers are expected"),
    ],
)
def test_a_card_of_numbers_that_no_training_gives_is_refused(edit: Edit, words: str, tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, edit)
    fails("info", tiny.name, words=(f"'{tiny.name}' is not a vaectl checkpoint", words))


def test_a_card_of_images_as_large_as_memory_is_refused_although_it_has_few_weights(tiny: Path, fails: Fails) -> None:
    def enlarge(card: Any, header: Any) -> None:
        side = 2**15
        convolution = {"layer": "conv2d", "in_channels": 1, "out_channels": 4, "kernel_size": 1, "stride": 1}
        double = [convolution, {"layer": "pixel_shuffle", "upscale_factor": 2}]
        card["network"].update(
            image_shape=[side, side, 1],
            latent_dim=1,
            encoder=[{"layer": "crop", "height": 1, "width": 1}, {"layer": "flatten"}],
            decoder=[{"layer": "unflatten", "height": 1, "width": 1, "channels": 1}, *double * 15, {"layer": "sigmoid"}],
        )

    edit_safetensors(tiny, enlarge)
    fails("grid", "-c", tiny.name, words=("is not a vaectl checkpoint", "activations"))


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '"x"', '{"format": 2, "format": 2}', "[" * 100_000])
def test_a_card_of_malformed_json_is_refused(text: str, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["vaectl"] = text
    for new in (json.dumps(header), "{" + json.dumps(header)[1:-1] + "," + json.dumps(header)[1:], "[" * 5000):
        tiny.write_bytes(len(new).to_bytes(8, "little") + new.encode() + data[8 + length :])
        fails("info", tiny.name, words=("is not a vaectl checkpoint",))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card, header: header.update({"extra": header.pop("encoder.1.bias")}), "'encoder.1.bias' is missing"),
        (lambda card, header: header.update({"extra": header["encoder.1.bias"]}), "'extra' is unexpected"),
        (lambda card, header: header["encoder.1.bias"].update(shape=[2, 1]), "'encoder.1.bias' is F32 [2, 1], not F32 [2]"),
        (lambda card, header: header["encoder.1.bias"].update(dtype="I32"), "'encoder.1.bias' is I32 [2], not F32"),
        (lambda card, header: header["encoder.1.bias"].update(dtype="BF16", shape=[4]), "'encoder.1.bias' is BF16"),
    ],
)
def test_an_error_names_a_tensor_that_is_missing_unexpected_or_of_another_shape(
    edit: Edit, words: str, tiny: Path, fails: Fails
) -> None:
    edit_safetensors(tiny, edit)
    fails("info", tiny.name, words=(f"the tensor {words}",))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_error_names_a_tensor_of_nan_or_infinite_weights(value: float, tiny: Path, fails: Fails) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(data[:-4] + np.float32(value).tobytes())
    fails("info", tiny.name, words=("the tensor 'encoder.", "has NaN or infinite values"))


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"weights": np.array([0.5, 0.7], np.float32)}, "the weights of its prior are not probabilities that sum to 1"),
        ({"weights": np.array([-0.5, 1.5], np.float32)}, "the weights of its prior are not probabilities that sum to 1"),
        ({"shares": np.array([[1, 1], [0, 1]], np.float32)}, "the shares of labels in its prior do not sum to 1"),
        ({"shares": np.array([[1, 0], [1, 0]], np.float32)}, "a label of its prior has no share in any component"),
        ({"factors": np.array([[[0.5]], [[-1]]], np.float32)}, "a covariance of its prior is not positive definite"),
        ({"factors": np.array([[[0.5]], [[0]]], np.float32)}, "a covariance of its prior is not positive definite"),
        ({"means": np.array([[np.nan], [1]], np.float32)}, "the tensor 'prior.means' has NaN or infinite values"),
        ({"factors": np.array([[[np.inf]], [[1]]], np.float32)}, "the tensor 'prior.factors' has NaN or infinite values"),
        ({"dims": np.array([1])}, "the dimensions of its prior are not an ascending selection of 1"),
        ({"dims": np.array([-1])}, "is not a vaectl checkpoint"),
    ],
)
def test_a_prior_that_is_no_mixture_is_refused(prior: dict[str, Any], words: str, fails: Fails, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "m.safetensors", **prior)
    fails("sample", "-c", "m.safetensors", words=(words,))


@pytest.mark.parametrize(
    "edit",
    [
        lambda card, header: card.update(prior=[]),
        lambda card, header: card["prior"].update(components=0),
        lambda card, header: card["prior"].update(components=True),
        lambda card, header: card["prior"].update(components=10**12),
        lambda card, header: card["prior"].update(dims=[]),
        lambda card, header: card["prior"].update(dims=list(range(20_000))),
        lambda card, header: card["prior"].update(labels=["left"]),
        lambda card, header: card["prior"].update(labels=[1, 2]),
        lambda card, header: card["prior"].pop("labels"),
        lambda card, header: card.update(prior=None),
    ],
)
def test_an_invalid_description_of_a_prior_is_refused(edit: Edit, fails: Fails, tmp_path: Path) -> None:
    path = write_tiny_checkpoint(tmp_path / "m.safetensors", **TINY_PRIOR)
    edit_safetensors(path, edit)
    fails("sample", "-c", path.name, words=("is not a vaectl checkpoint",), memory=64 << 20)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card, header: card["experts"][0].update(low=0.3), "an expert for noise of 0.3 to 0.2, which is no range"),
        (lambda card, header: card["experts"][0].update(low=-0.1), "an expert for noise of -0.1 to 0.2"),
        (lambda card, header: card["experts"][0].update(high="0.2"), "finite numbers"),
        (lambda card, header: card["experts"][0].pop("high"), "'high'"),
        (lambda card, header: card.update(experts={}), "is not a list"),
        (lambda card, header: card.update(experts=[]), "the tensor 'experts.0.decoder."),
        (lambda card, header: card.update(experts=card["experts"] * 2), "the tensor 'experts.1.decoder."),
        (lambda card, header: card.update(experts=card["experts"] * 1000), "experts are for networks without a latent, and few"),
    ],
)
def test_an_invalid_description_of_experts_is_refused(edit: Edit, words: str, fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    denoiser = checkpoint.load(str(FIXTURES / "unet.safetensors"))
    checkpoint.save(str(path), replace(denoiser, experts=[Expert(0.1, 0.2, denoiser.weights)]))
    edit_safetensors(path, edit)
    fails("info", path.name, words=(words,))


def test_a_latent_model_has_no_experts(tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, lambda card, header: card.update(experts=[{"low": 0.1, "high": 0.2}]))
    fails("info", tiny.name, words=("experts are for networks without a latent",))


def test_a_prior_that_is_asked_for_in_vain_is_named(fails: Fails, tiny: Path, tmp_path: Path) -> None:
    fails("sample", "--prior", "learned", "-c", tiny.name, words=("has no learned prior", "train it again"))
    fails("sample", "--label", "7", "-c", tiny.name, words=("has no learned prior",))
    write_tiny_checkpoint(tmp_path / "m.safetensors", **TINY_PRIOR)
    fails(
        "sample", "--label", "up", "-c", "m.safetensors", code=2, words=("knows no label 'up': its labels are 'left', 'right'",)
    )
    fails("sample", "--label", "left", "--prior", "normal", "-c", "m.safetensors", code=2, words=("labels need the learned",))


def test_a_newer_format_asks_for_an_upgrade(tiny: Path, fails: Fails) -> None:
    edit_safetensors(tiny, lambda card, header: card.update(format=3, network={"of": "the future"}))
    fails("info", tiny.name, words=(f"'{tiny.name}' has format 3", "upgrade vaectl"))


def test_a_checkpoint_that_ends_while_it_is_read_is_refused(tiny: Path, fails: Fails, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for length in (3, 100, len(data) - 1):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data[:length],))
        writer.start()
        fails("info", "pipe", words=("'pipe' is not a vaectl checkpoint",))
        writer.join()


def test_a_model_that_cannot_do_what_a_command_does_is_refused_with_one_that_can(
    fails: Fails, ae: Path, vae: Path, tmp_path: Path
) -> None:
    png = write_png(tmp_path / "a.png", np.zeros((28, 28), np.uint8))
    fails("sample", "--prior", "normal", "-c", ae, words=("use a vae",))
    fails("denoise", "-c", vae, words=("name a dae with -c FILE",))
    fails("encode", png, "--sample", "-c", ae, words=("use a vae",))


def test_control_characters_of_a_card_are_escaped(run: Call, tiny: Path) -> None:
    edit_safetensors(tiny, lambda card, header: card.update(data={"name": "\x1b[2J\ud800"}))
    output = run("info", tiny).stdout
    assert b"\\x1b[2J\\ud800" in output and b"\x1b" not in output
