import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support import Edit, edit_safetensors

from vaectl.base.errors import VaectlError
from vaectl.models import checkpoint
from vaectl.models.checkpoint import Card, Checkpoint, card_to_json
from vaectl.models.latents import LatentStats
from vaectl.models.network import build_mlp


@pytest.fixture
def saved() -> Checkpoint:
    network = build_mlp((4, 5, 3), 2, [6], variational=True)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.weight_shapes().items()}
    stats = LatentStats([0.0, 1.0], [1.0, 1.0], [-2.0, -2.0], [2.0, 2.0])
    return Checkpoint(
        Card("vae", network, "pad", "bernoulli", None, 1.0, ["gaussian:0.25"], stats, {"seed": 3}, {}, {}, [], {}), weights
    )


def test_a_saved_checkpoint_is_loaded_unchanged(saved: Checkpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "vae.safetensors")
    checkpoint.save(path, saved)
    found = checkpoint.load(path)
    assert card_to_json(found.card) == card_to_json(saved.card)
    assert all((found.weights[name] == saved.weights[name]).all() for name in saved.weights)


def test_transposed_weights_are_saved_in_the_right_order(saved: Checkpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "vae.safetensors")
    weights = {name: np.asfortranarray(weight) for name, weight in saved.weights.items()}
    checkpoint.save(path, Checkpoint(saved.card, weights))
    assert all((checkpoint.load(path).weights[name] == saved.weights[name]).all() for name in weights)


def test_saving_twice_gives_the_same_bytes(saved: Checkpoint, tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(str(tmp_path / name), saved)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_programs_can_read_the_weights(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(str(tmp_path / "vae.safetensors"), saved)
    with safetensors.safe_open(tmp_path / "vae.safetensors", framework="numpy") as file:
        assert set(file.keys()) == set(saved.weights)
        assert json.loads(file.metadata()["vaectl"])["model"] == "vae"


def test_a_new_file_gets_its_mode_from_the_umask(saved: Checkpoint, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.save(str(tmp_path / "vae.safetensors"), saved)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "vae.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\0" * 16, b"\xff" * 64, (2**20 + 1).to_bytes(8, "little") + b"{" * 99],
)
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(VaectlError, match=r"is not a vaectl checkpoint.*vaectl train wrote"):
        checkpoint.load(str(tmp_path / "x"))


def test_a_truncated_or_extended_file_is_refused(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), saved)
    whole = path.read_bytes()
    for damaged in [*(whole[:cut] for cut in range(0, len(whole), 97)), whole[:-1], whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(VaectlError, match="is not a vaectl checkpoint"):
            checkpoint.load(str(path))


def update(**values: object) -> Edit:
    return lambda card, header: card.update(values)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card, header: header.pop("__metadata__"), "no metadata 'vaectl'"),
        (lambda card, header: card.pop("latent_stats"), "latent_stats"),
        (update(format=3), "upgrade vaectl"),
        (update(beta="1"), "finite numbers"),
        (update(model=None), "None is not a str"),
        (update(epochs=3), "3 is not a list"),
        (
            update(latent_stats={"mean": [0.0], "std": [0.0], "percentile_1": [0.0], "percentile_99": [0.0]}),
            "do not have 2 dimensions",
        ),
        (lambda card, header: card["network"]["encoder"].append({"layer": "dropout"}), "unknown layer"),
        (lambda card, header: card["network"]["encoder"][1].update(in_features=61), "expects 61 features"),
        (lambda card, header: card["network"].update(image_shape=[4, 5]), r"\(4, 5\) is not \(height, width, 1 or 3\)"),
        (lambda card, header: header["encoder.1.bias"].update(shape=[3, 2]), r"'encoder.1.bias' is F32 \[3, 2\], not F32 \[6\]"),
        (lambda card, header: header["encoder.1.bias"].update(dtype="I32"), "'encoder.1.bias' is I32"),
        (lambda card, header: header.update({"encoder.9.bias": header.pop("encoder.1.bias")}), "'encoder.1.bias' is missing"),
    ],
)
def test_an_edited_card_or_header_is_refused_with_the_reason(edit: Edit, words: str, saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), saved)
    edit_safetensors(path, edit)
    with pytest.raises(VaectlError, match=words):
        checkpoint.load(str(path))


def test_a_duplicate_key_is_refused(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), saved)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].replace(b"{", b'{"__metadata__":{},', 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(VaectlError, match="duplicate key"):
        checkpoint.load(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinite_weights_are_refused_by_name(value: float, saved: Checkpoint, tmp_path: Path) -> None:
    weights = {name: weight.copy() for name, weight in saved.weights.items()}
    weights["decoder.2.bias"][1] = value
    checkpoint.save(str(tmp_path / "x"), Checkpoint(saved.card, weights))
    with pytest.raises(VaectlError, match=r"'decoder\.2\.bias' has NaN or infinite values"):
        checkpoint.load(str(tmp_path / "x"))


def test_a_folder_or_a_missing_file_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="is a directory"):
        checkpoint.load(str(tmp_path))
    with pytest.raises(VaectlError, match="no such file"):
        checkpoint.load(str(tmp_path / "none"))
