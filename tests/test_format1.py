"""Checkpoints and training states that vaectl 0.1 wrote are still read; see fixtures/format1/README.md."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from support import FORMAT1, Edit, Result, edit_safetensors, one_line

import vaectl
from vaectl import checkpoint, format1
from vaectl.errors import VaectlError
from vaectl.networks.layers import Conv2d, PixelShuffle, PixelUnshuffle
from vaectl.training import resume

Call = Callable[..., Result]

# The layers of format 1 that have another name now.
OLD_LAYERS = {"conv", "fold", "unfold", "reshape", "keep", "add"}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What version 0.1 computed."""
    return dict(np.load(FORMAT1 / "expected.npz"))


def test_the_mlp_gives_the_latents_of_version_0_1(expected: dict[str, Any]) -> None:
    z = vaectl.load(FORMAT1 / "vae.safetensors").encode(np.load(FORMAT1 / "digits.npz")["x_test"])
    np.testing.assert_allclose(z, expected["vae_z"], atol=1e-4)


def test_the_convolutions_give_the_latents_of_version_0_1(expected: dict[str, Any]) -> None:
    z = vaectl.load(FORMAT1 / "conv.safetensors").encode(np.load(FORMAT1 / "colour.npy"))
    np.testing.assert_allclose(z, expected["conv_z"], atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_unet_denoises_as_version_0_1_did(device: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaectl.autoencoder.resolve_device", lambda name: "cpu")  # where "cuda" runs in torch
    found = vaectl.load(FORMAT1 / "unet.safetensors", device).denoise(FORMAT1 / "photos" / "0.png")
    np.testing.assert_allclose(found, expected["unet_denoised"], atol=1e-4)


@pytest.mark.parametrize("name", ["vae", "conv", "unet"])
def test_a_checkpoint_saved_again_is_of_format_2_and_gives_the_same(name: str, tmp_path: Path) -> None:
    old = vaectl.load(FORMAT1 / f"{name}.safetensors")
    old.save(tmp_path / "new.safetensors")
    new = vaectl.load(tmp_path / "new.safetensors")
    assert card_of(tmp_path / "new.safetensors")["format"] == 2
    assert new.card == old.card
    assert all((new.checkpoint.weights[key] == weight).all() for key, weight in old.checkpoint.weights.items())


@pytest.mark.parametrize("name", ["vae", "conv", "unet"])
def test_info_shows_the_new_names(name: str, run: Call) -> None:
    text = run("info", "-c", FORMAT1 / f"{name}.safetensors").stdout.decode()
    lines = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(("encoder", "decoder"))]
    names = set(re.findall(r"[a-z]\w+", " ".join(lines)))
    assert names <= {"linear", "conv2d", "upsample", "crop", "pixel_unshuffle", "pixel_shuffle", "flatten", "unflatten"} | {
        "silu",
        "relu",
        "sigmoid",
        "clip",
        "push_skip",
        "add_skip",
    }
    assert "betas" in text and "images" in text and "pictures" not in text and "figures" not in text


def test_info_as_json_has_the_keys_of_format_2(run: Call) -> None:
    values = json.loads(run("info", "-c", FORMAT1 / "unet.safetensors", "--json").stdout)
    assert values["format"] == 2
    assert values["network"]["image_shape"] == [8, 8, 3]
    assert values["network"]["decoder"][1] == {"layer": "pixel_unshuffle", "downscale_factor": 2}
    assert values["metrics"]["images"] == values["figures"]["pictures"] == 1000
    assert values["training"]["betas"] == [0.9, 0.99]
    assert not values["training"].keys() & set(format1.DUPLICATED)


def test_a_card_without_a_fit_means_crop(tmp_path: Path) -> None:
    path = str(shutil.copy(FORMAT1 / "vae.safetensors", tmp_path))
    edit_safetensors(Path(path), lambda card, header: card.pop("fit"))
    assert checkpoint.load(path).card.fit == "crop"


# Damaged cards.


def card_of(path: Path, key: str = checkpoint.KEY) -> dict[str, Any]:
    """The JSON in a checkpoint, or under the key of a state."""
    with safe_open(path, "numpy") as file:
        values: dict[str, Any] = json.loads(file.metadata()[key])
    return values


def keys_of(values: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path to every key and item in JSON values."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from keys_of(value, (*path, key))


def damage(path: tuple[str | int, ...], value: Any) -> Edit:
    """Replace the value at a path; `...` removes it."""

    def edit(card: dict[str, Any], header: dict[str, Any]) -> None:
        parent: Any = card
        for key in path[:-1]:
            parent = parent[key]
        if value is ...:
            del parent[path[-1]]
        else:
            parent[path[-1]] = value

    return edit


def find(values: Any, path: tuple[str | int, ...]) -> Any:
    """The value at a path."""
    for key in path:
        values = values[key]
    return values


# Their items are only shown, so they may have any value.
SHOWN_ONLY = ("data", "epochs", "figures", "training", "versions")


def may_be_accepted(path: tuple[str | int, ...], value: Any, original: Any) -> bool:
    """Whether a damaged value cannot be told from a right one."""
    if path[0] == "network":
        return bool(value == original)
    if path == ("fit",) and value is ...:
        return True
    numbers = isinstance(value, int) and isinstance(original, float | int)
    removed_item = value is ... and path[0] == "corrupt"
    no_sigma = path == ("sigma",) and value in (None, -1)
    return (len(path) > 1 and path[0] in SHOWN_ONLY) or type(value) is type(original) or numbers or removed_item or no_sigma


@pytest.mark.fault(4)
@pytest.mark.parametrize("name", ["vae", "conv", "unet"])
@pytest.mark.parametrize("value", [..., None, "x", -1, 1e999, [], {}, [[]], {"layer": []}], ids=repr)
def test_a_card_with_any_key_damaged_is_refused_with_a_message(name: str, value: Any, tmp_path: Path) -> None:
    source = FORMAT1 / f"{name}.safetensors"
    card = card_of(source)
    path = tmp_path / "damaged.safetensors"
    for key in keys_of(card):
        edit_safetensors(path, damage(key, value), source=source)
        try:
            vaectl.load(path)
        except VaectlError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert may_be_accepted(key, value, find(card, key)), key


@pytest.mark.fault(4)
@pytest.mark.parametrize("name", ["vae", "conv", "unet"])
def test_a_card_of_another_type_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    for value in ("[]", "3", "null", '{"format": 1}', '{"format": 1, "training": {}}', "{"):
        shutil.copy(FORMAT1 / f"{name}.safetensors", path)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"]["vaectl"] = value
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        with pytest.raises(VaectlError, match="is not a vaectl checkpoint"):
            checkpoint.load(str(path))


def test_a_damaged_card_is_one_line_on_stderr(run: Call, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    shutil.copy(FORMAT1 / "unet.safetensors", path)
    edit_safetensors(path, damage(("network", "decoder", 2, "inputs"), 7))
    one_line(run("info", "-c", path, code=1), "is not a vaectl checkpoint", "expects 7 channels")


# The order of channels.


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_unshuffled_pixels_are_reordered(channels: int, factor: int) -> None:
    rows_columns_channels = np.arange(channels * factor**2).reshape(factor, factor, channels)
    order = format1.channel_order(channels * factor**2, factor)
    np.testing.assert_array_equal(rows_columns_channels.ravel()[order], rows_columns_channels.transpose(2, 0, 1).ravel())


def test_only_weights_next_to_shuffled_pixels_are_permuted() -> None:
    network = checkpoint.load(str(FORMAT1 / "unet.safetensors")).card.network
    weights = {name: np.arange(np.prod(shape)).reshape(shape) for name, shape in network.weight_shapes().items()}
    upgraded = format1.upgrade_weights(network, weights)
    convolutions = [index for index, layer in enumerate(network.decoder) if isinstance(layer, Conv2d)]
    assert isinstance(network.decoder[1], PixelUnshuffle) and isinstance(network.decoder[-3], PixelShuffle)
    first, last = f"decoder.{convolutions[0]}", f"decoder.{convolutions[-1]}"
    changed = {name for name in weights if (upgraded[name] != weights[name]).any()}
    assert changed == {f"{first}.weight", f"{last}.weight", f"{last}.bias"}


# Training states.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the fixtures."""
    return Path(shutil.copytree(FORMAT1, tmp_path / "format1"))


@pytest.mark.fault(36)
def test_an_interrupted_run_of_version_0_1_resumes_to_the_same_weights(run: Call, folder: Path) -> None:
    state = resume.load(str(folder / "resume_vae.resume.safetensors"))
    _, *arguments = shlex.split(state.command)
    assert "--resume" in arguments and state.state.step > 0
    result = run(*arguments, cwd=folder)
    assert re.search(rb"the run began with another .*vaectl.*: the result will not be bit-identical", result.stderr)
    assert not (folder / "resume_vae.resume.safetensors").exists()
    found = checkpoint.load(str(folder / "resume_vae.safetensors"))
    expected = checkpoint.load(str(FORMAT1 / "finished_vae.safetensors"))
    assert found.weights.keys() == expected.weights.keys()
    for key, weight in expected.weights.items():
        np.testing.assert_allclose(found.weights[key], weight, atol=1e-3)
    assert found.card.metrics["mse"] == pytest.approx(expected.card.metrics["mse"], rel=1e-3)
    assert len(found.card.epochs) == len(expected.card.epochs)


def test_a_unet_of_version_0_1_is_begun_anew(run: Call, folder: Path) -> None:
    """Its network has other layers now."""
    path = folder / "resume_unet.resume.safetensors"
    before = path.read_bytes()
    _, *arguments = shlex.split(resume.load(str(path)).command)
    error = run(*arguments, cwd=folder, code=1).stderr.decode()
    assert "is of a run with" in error and "--force" in error and len(error) < 1000
    assert path.read_bytes() == before


@pytest.mark.fault(38)
@pytest.mark.parametrize("change", [["--epochs", "7"], ["--lr", "0.5"], ["--hidden", "17"], ["--seed", "3"]])
def test_a_state_of_version_0_1_is_for_its_own_run_alone(change: list[str], run: Call, folder: Path) -> None:
    path = folder / "resume_vae.resume.safetensors"
    before = path.read_bytes()
    _, *arguments = shlex.split(resume.load(str(path)).command)
    assert b"is of a run with " in run(*arguments, *change, cwd=folder, code=1).stderr
    assert path.read_bytes() == before


@pytest.mark.fault(38)
@pytest.mark.parametrize("name", ["vae", "unet"])
def test_a_damaged_state_of_version_0_1_is_refused(name: str, folder: Path) -> None:
    path = folder / f"resume_{name}.resume.safetensors"
    data = path.read_bytes()
    for offset in [9, 40, 300, 1200, *range(3000, len(data), len(data) // 30), len(data) - 1]:
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 2]) + data[offset + 1 :])
        with pytest.raises(VaectlError, match=r"is damaged: .*start over with --force"):
            resume.load(str(path))


@pytest.mark.fault(38)
@pytest.mark.parametrize("value", [..., None, "x", -1, [], {}, [[]]], ids=repr)
def test_a_state_with_any_key_damaged_is_refused_even_with_a_right_hash(
    value: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FORMAT1 / "resume_unet.resume.safetensors"
    path = folder / source.name
    saved = card_of(source, resume.STATE_KEY)
    monkeypatch.setattr(resume, "hash_state", lambda values, tensors: saved["sha256"])
    for key in keys_of(saved):
        edit_safetensors(path, damage(key, value), resume.STATE_KEY, source)
        try:
            resume.load(str(path))
        except VaectlError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert key[0] not in ("format", "sha256", "sizes") and (key != ("command",) or value == "x"), key


def test_the_fixtures_are_of_format_1_and_use_its_names() -> None:
    names: set[str] = set()
    for path in FORMAT1.glob("*.safetensors"):
        is_state = ".resume." in path.name
        values = card_of(path, resume.STATE_KEY if is_state else checkpoint.KEY)
        network = values["training"]["network"] if is_state else values["network"]
        assert values["format"] == 1
        names |= {layer["layer"] for half in ("encoder", "decoder") for layer in network[half]}
    assert names >= OLD_LAYERS
