from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import vaectl


def test_pictures_come_back(vae: Path, ae: Path, digits: NDArray[np.uint8]) -> None:
    for path in (vae, ae):
        model = vaectl.load(path)
        pictures = model.decode(model.encode(digits))
        assert pictures.shape == (64, 28, 28, 1)
        assert pictures.dtype == np.float32
        assert 0 <= pictures.min() <= pictures.max() <= 1
        blank = np.square(digits.mean(0) / 255 - digits / 255).mean()
        assert np.square(pictures - digits / 255).mean() < 0.9 * blank


def test_both_engines_encode_and_decode_alike(vae: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    on_numpy = vaectl.load(vae)
    monkeypatch.setattr("vaectl.device.resolve", lambda name: "cpu")
    on_torch = vaectl.load(vae, device="cuda")
    z = on_numpy.encode(digits)
    np.testing.assert_allclose(on_torch.encode(digits), z, atol=1e-4)
    np.testing.assert_allclose(on_torch.decode(z), on_numpy.decode(z), atol=1e-5)


def test_bytes_and_fractions_one_and_many_are_the_same_pictures(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits)
    assert z.shape == (64, 2)
    np.testing.assert_allclose(model.encode(digits / 255), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(digits[..., 0]), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(digits[3]), z[3:4], atol=1e-5)
    np.testing.assert_allclose(model.decode(z[3]), model.decode(z)[3:4], atol=1e-5)


def test_draws_follow_the_posterior(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    mu, logvar = model.posterior(digits[:1])
    np.testing.assert_array_equal(model.encode(digits[:1]), mu)
    z = model.encode(np.repeat(digits[:1], 4000, axis=0), rng=np.random.default_rng(0))
    np.testing.assert_allclose(z.mean(0), mu[0], atol=0.06)
    np.testing.assert_allclose(z.std(0), np.exp(logvar[0] / 2), rtol=0.05)


def test_no_pictures_give_no_latents(vae: Path) -> None:
    model = vaectl.load(vae)
    assert model.encode(np.zeros((0, 28, 28), np.uint8)).shape == (0, 2)
    assert model.decode(np.zeros((0, 2))).shape == (0, 28, 28, 1)


def test_what_does_not_fit_is_told(vae: Path, ae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    with pytest.raises(vaectl.VaectlError, match="28 x 28 x 1 are expected"):
        model.encode(digits[:, :27])
    with pytest.raises(vaectl.VaectlError, match=r"latents are \(N, 2\)"):
        model.decode(np.zeros((3, 4)))
    with pytest.raises(vaectl.VaectlError, match="NaN"):
        model.decode([[np.nan, 0]])
    with pytest.raises(vaectl.VaectlError, match="use a vae"):
        vaectl.load(ae).posterior(digits)
