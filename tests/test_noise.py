import numpy as np
import pytest
from PIL import Image, ImageFilter

from vaectl.corruption import noise_range
from vaectl.noise import estimate_sigma


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
