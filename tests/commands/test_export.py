"""vaectl export, and the same from Python."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from support import FIXTURES, Result, one_line, run_on_terminal

import vaectl
from vaectl.models import checkpoint

Call = Callable[..., Result]


def test_an_exported_vae_encodes_and_decodes_alike(vae: Path, run: Call, digits: NDArray[np.uint8], tmp_path: Path) -> None:
    model = vaectl.load(vae)
    images = digits.astype(np.float32) / 255
    result = run("export", "-c", vae, "-o", "vae.onnx")
    assert not result.stdout and not result.stderr
    mu, logvar, reconstruction = InferenceSession(tmp_path / "vae.onnx").run(None, {"image": images})
    for found, expected in zip((mu, logvar), model.posterior(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(reconstruction, model.reconstruct(images), atol=1e-4)
    run("export", "-c", vae, "--part", "encoder", "-o", "encoder.onnx")
    run("export", "-c", vae, "--part", "decoder", "-o", "decoder.onnx")
    encoder, decoder = (InferenceSession(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder"))
    (image,) = decoder.run(None, {"z": encoder.run(["mu"], {"image": images})[0]})
    np.testing.assert_allclose(image, reconstruction, atol=1e-4)


def test_an_exported_denoiser_denoises_photos_of_any_size(run: Call, tmp_path: Path) -> None:
    run("export", "-c", "photo", "-o", "photo.onnx")
    session = InferenceSession(tmp_path / "photo.onnx")
    for size in ((37, 50), (64, 21)):
        photos = np.random.default_rng(0).random((2, *size, 3), np.float32)
        (denoised,) = session.run(None, {"image": photos})
        np.testing.assert_allclose(denoised, vaectl.load("photo").denoise(photos), atol=1e-4)


def test_the_file_carries_the_card(vae: Path, run: Call, tmp_path: Path) -> None:
    run("export", "-c", vae, "-o", "vae.onnx")
    model = onnx.load(tmp_path / "vae.onnx")
    assert (model.producer_name, model.producer_version) == ("vaectl", vaectl.__version__)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert list(metadata) == ["vaectl"]
    values = json.loads(metadata["vaectl"])
    assert checkpoint.card_from_json(values) == vaectl.load(vae).card
    assert InferenceSession(tmp_path / "vae.onnx").get_modelmeta().custom_metadata_map == metadata


@pytest.mark.parametrize("name", ["vae", "unet"])
def test_a_model_with_or_without_a_latent_is_exported(name: str, run: Call, tmp_path: Path) -> None:
    path = FIXTURES / f"{name}.safetensors"
    run("export", "-c", path, "-o", "model.onnx")
    model = vaectl.load(path)
    images = np.random.default_rng(0).random((2, *model.image_shape), np.float32)
    (found,) = InferenceSession(tmp_path / "model.onnx").run(["reconstruction"], {"image": images})
    np.testing.assert_allclose(found, model.reconstruct(images), atol=1e-4)


def test_without_a_file_the_model_goes_to_stdout_unless_that_is_a_terminal(vae: Path, run: Call, tmp_path: Path) -> None:
    vaectl.load(vae).export(tmp_path / "python.onnx", "encoder")
    expected = (tmp_path / "python.onnx").read_bytes()
    assert run("export", "-c", vae, "--part", "encoder").stdout == expected
    assert run("export", "-c", vae, "--part", "encoder", "-o", "-").stdout == expected
    code, text = run_on_terminal(["export", "-c", vae], tmp_path)
    assert code == 2
    assert "stdout is a terminal: redirect it (> model.onnx), name a file (-o model.onnx), or force it (-o -)" in text


def test_wrong_calls_are_refused_before_anything_is_written(vae: Path, run: Call, tmp_path: Path) -> None:
    text = one_line(
        run("export", "-c", vae, "-o", "vae.pt", code=2), "'vae.pt': this command writes onnx: change the suffix of -o"
    )
    assert "--format" not in text
    one_line(run("export", "-c", vae, "-o", ".", code=2), "'.' is a folder", "as in -o ./model.onnx")
    one_line(run("export", "-c", vae, "--part", "half", "-o", "vae.onnx", code=2), "--part")
    unet = FIXTURES / "unet.safetensors"
    one_line(run("export", "-c", unet, "--part", "decoder", "-o", "unet.onnx", code=1), "has no decoder: export it whole")
    assert not list(tmp_path.iterdir())


def test_without_the_package_onnx_the_error_says_how_to_install_it(vae: Path, run: Call, tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(name='onnx')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = run("export", "-c", vae, "-o", "vae.onnx", code=1, buffering="buffered", PYTHONPATH=path)
    one_line(result, "vaectl export: onnx is not installed: pip install 'vaectl[onnx]'")
    assert not (tmp_path / "vae.onnx").exists()
