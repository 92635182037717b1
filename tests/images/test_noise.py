from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image, ImageFilter
from support import FIXTURES, Result, one_line

import vaectl
from vaectl.images.corruption import noise_range
from vaectl.images.noise import Expert, Noise, estimate_sigma
from vaectl.models import checkpoint

Call = Callable[..., Result]


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    """A denoiser with an expert in noise of 0.05 to 0.15, whose weights are all 0."""
    found = checkpoint.load(str(FIXTURES / "unet.safetensors"))
    zeros = {name: np.zeros_like(weight) for name, weight in found.weights.items()}
    checkpoint.save(str(tmp_path / "expert.safetensors"), replace(found, experts=[Expert(0.05, 0.15, zeros)]))
    return tmp_path / "expert.safetensors"


def noisy_photos(*sigmas: float) -> list[np.ndarray]:
    """Gray photos of one size with noise."""
    rng = np.random.default_rng(0)
    return [np.clip(0.5 + sigma * rng.standard_normal((40, 48, 3)), 0, 1).astype(np.float32) for sigma in sigmas]


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("shape", [(200, 300, 3), (1500, 1400, 1), (81, 33, 3)])
def test_the_estimate_is_near_the_sigma_of_the_noise(sigma: float, shape: tuple[int, int, int]) -> None:
    height, width, channels = shape
    smooth = np.asarray(Image.radial_gradient("L").resize((width, height)).filter(ImageFilter.GaussianBlur(2)), np.float32) / 400
    image = np.repeat(smooth[..., None], channels, axis=2) + 0.15
    noisy = image + sigma * np.random.default_rng(0).standard_normal(image.shape)
    assert estimate_sigma(noisy.astype(np.float32)) == pytest.approx(sigma, rel=0.1, abs=0.005)


def test_an_image_of_one_pixel_has_no_noise() -> None:
    assert estimate_sigma(np.zeros((1, 1, 3), np.float32)) == 0
    assert estimate_sigma(np.ones((1, 9, 3), np.float32)) == 0


@pytest.fixture
def texture() -> np.ndarray:
    """The fine texture of a photo that is not gray."""
    gray = 0.5 + np.repeat(0.05 * np.random.default_rng(1).standard_normal((200, 300, 1)), 3, axis=2)
    return (gray + np.array([0.1, 0, 0])).astype(np.float32)


def test_white_noise_is_told_from_texture(texture: np.ndarray) -> None:
    noisy = texture + 0.1 * np.random.default_rng(0).standard_normal(texture.shape).astype(np.float32)
    assert Noise(noisy).white_sigma == pytest.approx(0.1, rel=0.05)
    assert Noise(texture).white_sigma < 0.01 < 0.04 < estimate_sigma(texture)


def test_in_a_gray_photo_all_noise_is_white(texture: np.ndarray) -> None:
    gray = texture[..., 1:2]
    assert Noise(gray).white_sigma == Noise(np.repeat(gray, 3, axis=2)).white_sigma == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_noise_that_went_through_jpeg_is_not_white(texture: np.ndarray, mode: str, subsampling: int) -> None:
    noisy = texture + 0.1 * np.random.default_rng(0).standard_normal(texture.shape)
    photo = Image.fromarray(np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)).convert(mode)
    photo.save(stream := BytesIO(), "JPEG", quality=75, subsampling=subsampling)
    before, after = (np.asarray(image, np.float32).reshape(200, 300, -1) / 255 for image in (photo, Image.open(stream)))
    assert Noise(before).white_sigma > 0.05
    assert Noise(after).white_sigma < 0.01 < 0.05 < estimate_sigma(after)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["gaussian:0.1"], (0.1, 0.1)),
        (["gaussian:0.05-0.2"], (0.05, 0.2)),
        (["camera@0.1", "gaussian:0.1-0.2@0.9"], (0, 0.2)),
        (["gaussian:0.3", "jpeg:30", "gaussian:0.4"], (0.7, 0.5)),
        (["watermark:gone.png", "mask:0.1"], None),
    ],
)
def test_the_noise_a_model_learned_is_in_its_specs(specs: list[str], expected: tuple[float, float] | None) -> None:
    found = noise_range(specs)
    assert (found and (found.low, found.high)) == (expected and pytest.approx(expected))


def test_each_photo_is_denoised_by_the_expert_in_its_noise(expert: Path) -> None:
    photos = noisy_photos(0.02, 0.1, 0.25)
    model = vaectl.load(expert)
    general = vaectl.Autoencoder(model.checkpoint, model.encoder, model.decoder)
    weak, medium, strong = model.denoise(np.stack(photos))
    np.testing.assert_allclose(np.stack([weak, strong]), general.denoise(np.stack(photos[::2])), atol=1e-6)
    by_expert = vaectl.Autoencoder(model.checkpoint, model.encoder, model.experts[0][1]).denoise(photos[1])
    np.testing.assert_allclose(medium, by_expert[0], atol=1e-6)
    assert np.abs(medium - general.denoise(photos[1])[0]).max() > 0.01


def test_evaluate_takes_the_expert_as_well(expert: Path) -> None:
    photos = [np.rint(photo * 255).astype(np.uint8) for photo in noisy_photos(0.02, 0.1)]
    general = FIXTURES / "unet.safetensors"
    weak, medium = (
        [vaectl.evaluate(model, photo[np.newaxis], corrupt=[]).metrics["psnr"] for model in (expert, general)] for photo in photos
    )
    assert weak[0] == pytest.approx(weak[1], abs=1e-3)
    assert abs(medium[0] - medium[1]) > 0.1
    both = vaectl.evaluate(expert, np.stack(photos), corrupt=[]).metrics["psnr"]
    assert both == pytest.approx((weak[0] + medium[0]) / 2, abs=1e-3)


def test_experts_are_kept_in_the_checkpoint_and_told(expert: Path, run: Call) -> None:
    model = vaectl.load(expert)
    model.save(expert.with_name("copy.safetensors"))
    (kept,) = checkpoint.load(str(expert.with_name("copy.safetensors"))).experts
    assert (kept.low, kept.high) == (0.05, 0.15)
    assert kept.weights.keys() == model.checkpoint.weights.keys() and not any(weight.any() for weight in kept.weights.values())
    assert b'"F16"' in expert.read_bytes() and b'"F32"' not in expert.read_bytes()
    assert "other weights for photos with noise of sigma 0.05 to 0.15" in run("info", expert).stdout.decode()


def test_an_export_has_the_weights_for_one_strength_of_noise(expert: Path, run: Call) -> None:
    model, photo = vaectl.load(expert), noisy_photos(0.1)[0][np.newaxis]
    general = vaectl.load(FIXTURES / "unet.safetensors").reconstruct(photo)
    for sigma, expected in ((0.1, model.denoise(photo)), (0.2, general)):
        result = run("export", "-c", expert, "--sigma", sigma, "-o", "chosen.onnx")
        assert not result.stderr
        (found,) = InferenceSession(expert.with_name("chosen.onnx")).run(None, {"image": photo})
        np.testing.assert_allclose(found, expected, atol=1e-3)
    one_line(run("export", "-c", expert, "-o", "general.onnx"), "without the other weights", "sigma 0.05 to 0.15", "--sigma")
    one_line(run("export", "-c", FIXTURES / "unet.safetensors", "--sigma", 0.1, "-o", "x.onnx", code=2), "one set of weights")


def test_torch_gets_the_weights_for_one_strength_of_noise(expert: Path) -> None:
    model = vaectl.load(expert)
    assert not any(weight.any() for weight in model.torch(sigma=0.1)[1].state_dict().values())
    with pytest.warns(vaectl.VaectlWarning, match="without the other weights"):
        decoder = model.torch()[1]
    assert any(weight.any() for weight in decoder.state_dict().values())


def test_the_sigma_that_is_given_chooses_the_expert(expert: Path) -> None:
    model, photo = vaectl.load(expert), noisy_photos(0.02)[0][np.newaxis]
    assert np.abs(model.reconstruct_batch(photo, 0.1) - model.reconstruct_batch(photo)).max() > 0.01
    np.testing.assert_array_equal(model.reconstruct_batch(photo, 0.02), model.reconstruct_batch(photo))


def test_a_training_from_a_model_with_experts_says_that_they_are_left_out(expert: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), np.uint8)
    with pytest.warns(vaectl.VaectlWarning, match="starts without the other weights"):
        tuned = vaectl.train("dae", photos, init_from=expert, epochs=1, output=expert.with_name("tuned.safetensors"))
    assert not tuned.experts
