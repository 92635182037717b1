import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support import rewritten

from vaectl import checkpoint, networks
from vaectl.checkpoint import Card, Checkpoint
from vaectl.errors import VaectlError
from vaectl.latents import LatentStatistics


@pytest.fixture
def made() -> Checkpoint:
    network = networks.mlp((4, 5, 3), 2, [6], variational=True)
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in network.tensors().items()}
    spread = LatentStatistics([0.0, 1.0], [1.0, 1.0], [-2.0, -2.0], [2.0, 2.0])
    return Checkpoint(
        Card("vae", network, "pad", "bernoulli", None, 1.0, ["gaussian:0.25"], spread, {"seed": 3}, {}, {}, [], {}), tensors
    )


def test_what_is_saved_is_loaded(made: Checkpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "vae.safetensors")
    checkpoint.save(path, made)
    found = checkpoint.load(path)
    assert checkpoint.to_json(found.card) == checkpoint.to_json(made.card)
    assert all((found.tensors[name] == made.tensors[name]).all() for name in made.tensors)


def test_a_transposed_array_is_saved_as_it_reads(made: Checkpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "vae.safetensors")
    tensors = {name: np.asfortranarray(tensor) for name, tensor in made.tensors.items()}
    checkpoint.save(path, Checkpoint(made.card, tensors))
    assert all((checkpoint.load(path).tensors[name] == made.tensors[name]).all() for name in tensors)


def test_the_same_checkpoint_is_the_same_bytes(made: Checkpoint, tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(str(tmp_path / name), made)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_programs_can_read_the_weights(made: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(str(tmp_path / "vae.safetensors"), made)
    with safetensors.safe_open(tmp_path / "vae.safetensors", framework="numpy") as file:
        assert set(file.keys()) == set(made.tensors)
        assert json.loads(file.metadata()["vaectl"])["model"] == "vae"


def test_a_new_file_gets_the_mode_that_the_umask_leaves(made: Checkpoint, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.save(str(tmp_path / "vae.safetensors"), made)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "vae.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\0" * 16, b"\xff" * 64, (2**20 + 1).to_bytes(8, "little") + b"{" * 99],
)
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(VaectlError, match=r"is no checkpoint of vaectl.*vaectl train wrote"):
        checkpoint.load(str(tmp_path / "x"))


def test_a_file_cut_anywhere_or_grown_is_refused(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), made)
    whole = path.read_bytes()
    for damaged in [*(whole[:cut] for cut in range(0, len(whole), 97)), whole[:-1], whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(VaectlError, match="is no checkpoint"):
            checkpoint.load(str(path))


def set_card(**values: object) -> object:
    return lambda card, header: card.update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card, header: header.pop("__metadata__"), "no metadata 'vaectl'"),
        (lambda card, header: card.pop("latent"), "latent"),
        (set_card(format=2), "upgrade vaectl"),
        (set_card(beta="1"), "finite numbers"),
        (set_card(model=None), "a str is due"),
        (set_card(epochs=3), "a list is due"),
        (set_card(latent={"mean": [0.0], "std": [0.0], "percentile_1": [0.0], "percentile_99": [0.0]}), "not of 2 dimensions"),
        (lambda card, header: card["network"]["encoder"].append({"layer": "dropout"}), "is no layer row"),
        (lambda card, header: card["network"]["encoder"][1].update(inputs=61), "takes 61 values"),
        (lambda card, header: card["network"].update(picture=[4, 5]), "make no network"),
        (lambda card, header: header["encoder.1.bias"].update(shape=[3, 2]), r"'encoder.1.bias' is F32 \[3, 2\], and F32 \["),
        (lambda card, header: header["encoder.1.bias"].update(dtype="I32"), "'encoder.1.bias' is I32"),
        (lambda card, header: header.update({"encoder.9.bias": header.pop("encoder.1.bias")}), "'encoder.1.bias' is missing"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_by_name(change: object, words: str, made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), made)
    rewritten(path, change)
    with pytest.raises(VaectlError, match=words):
        checkpoint.load(str(path))


def test_a_key_that_stands_twice_is_refused(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    checkpoint.save(str(path), made)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].replace(b"{", b'{"__metadata__":{},', 1)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(VaectlError, match="stands twice"):
        checkpoint.load(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, made: Checkpoint, tmp_path: Path) -> None:
    tensors = {name: tensor.copy() for name, tensor in made.tensors.items()}
    tensors["decoder.2.bias"][1] = value
    checkpoint.save(str(tmp_path / "x"), Checkpoint(made.card, tensors))
    with pytest.raises(VaectlError, match=r"'decoder\.2\.bias' holds NaN or infinity"):
        checkpoint.load(str(tmp_path / "x"))


def test_a_folder_or_nothing_at_all_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(VaectlError, match="is a directory"):
        checkpoint.load(str(tmp_path))
    with pytest.raises(VaectlError, match="no such file"):
        checkpoint.load(str(tmp_path / "none"))
