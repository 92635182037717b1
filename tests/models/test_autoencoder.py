"""The Python API: loading, training and evaluating models, and what each method takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support import FIXTURES, Result, write_png

import vaectl
from vaectl import Autoencoder, VaectlError, VaectlWarning
from vaectl.base.errors import UsageError

Call = Callable[..., Result]


@pytest.fixture
def unet() -> Autoencoder:
    """A U-Net that denoises color images of any size."""
    return vaectl.load(FIXTURES / "unet.safetensors")


def test_the_module_shows_only_its_public_names() -> None:
    classes = {"Autoencoder", "Evaluation", "Progress", "VaectlError", "VaectlWarning"}
    names = classes | {"evaluate", "explore", "load", "train"}
    assert set(dir(vaectl)) == names | {"__version__"}
    assert set(vaectl.__all__) == names
    assert all(getattr(vaectl, name) is not None for name in dir(vaectl))
    with pytest.raises(AttributeError, match="module 'vaectl' has no attribute 'fit'"):
        vaectl.fit  # noqa: B018 - reading it must fail


def test_two_lines_load_a_model_and_encode_with_it(vae: Path, digits_folder: Path) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits_folder / "00.png")
    assert z.shape == (1, 2) and z.dtype == np.float32


def test_reconstructions_resemble_the_images(vae: Path, ae: Path, digits: NDArray[np.uint8]) -> None:
    for path in (vae, ae):
        model = vaectl.load(path)
        images = model.decode(model.encode(digits))
        assert images.shape == (64, 28, 28, 1)
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        error_of_the_mean = np.square(digits.mean(0) / 255 - digits / 255).mean()
        assert np.square(images - digits / 255).mean() < 0.9 * error_of_the_mean


def test_both_engines_encode_and_decode_alike(vae: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    on_numpy = vaectl.load(vae)
    monkeypatch.setattr("vaectl.models.autoencoder.resolve_device", lambda name: "cpu")
    on_torch = vaectl.load(vae, device="cuda")
    z = on_numpy.encode(digits)
    np.testing.assert_allclose(on_torch.encode(digits), z, atol=1e-4)
    np.testing.assert_allclose(on_torch.decode(z), on_numpy.decode(z), atol=1e-5)


def test_after_much_work_numpy_hands_over_to_torch(vae: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    model = vaectl.load(vae, device="cpu")
    z = model.encode(digits)
    monkeypatch.setattr("vaectl.models.autoencoder.NUMPY_MAC_LIMIT", 0)
    np.testing.assert_allclose(model.encode(digits), z, atol=1e-4)


def test_large_batches_are_run_in_chunks(vae: Path, digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits)
    monkeypatch.setattr("vaectl.models.autoencoder.MAX_BATCH_VALUES", 5 * 784)
    np.testing.assert_allclose(model.encode(digits), z, atol=1e-5)


def test_bytes_and_floats_one_image_and_many_are_accepted(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits)
    assert z.shape == (64, 2)
    np.testing.assert_allclose(model.encode(digits / 255), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(digits[..., 0]), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(digits.reshape(64, 784)), z, atol=1e-5)
    np.testing.assert_allclose(model.encode(digits[:5].tolist()), z[:5], atol=1e-5)
    np.testing.assert_allclose(model.encode(digits[3]), z[3:4], atol=1e-5)
    np.testing.assert_allclose(model.decode(z[3]), model.decode(z)[3:4], atol=1e-5)


def test_paths_folders_pillow_images_and_references_are_encoded_alike(
    vae: Path, digits_folder: Path, digits: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits)
    np.save(tmp_path / "digits.npy", digits[:5])
    pillow = [Image.fromarray(digit[..., 0]) for digit in digits]
    same: list[tuple[Any, slice]] = [
        (digits_folder / "03.png", slice(3, 4)),
        (str(digits_folder / "03.png"), slice(3, 4)),
        (pillow[3], slice(3, 4)),
        ("mnist:3", slice(3, 4)),
        (digits_folder, slice(12)),
        (tmp_path / "digits.npy", slice(5)),
        ([digits_folder / "02.png", str(digits_folder / "03.png"), pillow[4], "mnist:5"], slice(2, 6)),
        ((pillow[2], pillow[3]), slice(2, 4)),
    ]
    for images, rows in same:
        np.testing.assert_allclose(model.encode(images), z[rows], atol=1e-5)
        np.testing.assert_allclose(model.reconstruct(images), model.decode(z[rows]), atol=1e-5)
        np.testing.assert_allclose(model.posterior(images)[0], z[rows], atol=1e-5)


def test_an_iterator_of_paths_is_encoded(vae: Path, digits_folder: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    z = model.encode(path for path in sorted(digits_folder.glob("0*.png")))
    np.testing.assert_allclose(z, model.encode(digits[:10]), atol=1e-5)


def test_a_data_set_by_name_is_encoded_whole(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    z = model.encode("mnist:test")
    assert z.shape == (10000, 2)
    np.testing.assert_allclose(z[:64], model.encode(digits), atol=1e-5)


def test_pillow_images_of_any_size_and_mode_are_resized(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    digit = Image.fromarray(digits[0, :, :, 0])
    z = model.encode(digit)
    np.testing.assert_allclose(model.encode(digit.convert("RGB")), z, atol=0.02)
    large = digit.resize((112, 112), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(model.encode(large), z, atol=0.3)
    np.testing.assert_allclose(model.encode([digit, large]), np.concatenate([z, model.encode(large)]), atol=1e-5)


def test_the_python_api_encodes_a_file_as_the_command_does(run: Call, vae: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    write_png(tmp_path / "photo.png", pixels)
    run("encode", "photo.png", "-c", vae, "-o", "z.npy")
    expected = np.load(tmp_path / "z.npy")
    model = vaectl.load(vae)
    np.testing.assert_allclose(model.encode(tmp_path / "photo.png"), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(Image.fromarray(pixels)), expected, atol=1e-5)


def test_the_python_api_decodes_files_of_latents(run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "17.png", digits[17])
    model = vaectl.load(vae)
    expected = model.reconstruct(digits[17])
    for name in ("z.npy", "z.csv"):
        run("encode", "17.png", "-c", vae, "-o", name)
        np.testing.assert_allclose(model.decode(tmp_path / name), expected, atol=1e-5)
    assert model.decode([tmp_path / "z.npy", tmp_path / "z.csv"]).shape == (2, 28, 28, 1)
    with pytest.raises(VaectlError, match=r"17.png' is a PNG file: latents \(NPY or CSV\) are expected"):
        model.decode(tmp_path / "17.png")


def test_a_missing_file_is_refused(vae: Path) -> None:
    with pytest.raises(VaectlError, match="no such file"):
        vaectl.load(vae).encode("missing.png")


def test_a_damaged_file_is_refused(vae: Path, digits_folder: Path) -> None:
    (digits_folder / "03.png").write_bytes((digits_folder / "03.png").read_bytes()[:60])
    with pytest.raises(VaectlError, match=r"03\.png' is damaged"):
        vaectl.load(vae).encode(digits_folder)


def test_a_unet_denoises_arrays_paths_and_pillow_images_of_any_size(unet: Autoencoder, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (18, 20, 3), np.uint8)
    path = write_png(tmp_path / "photo.png", pixels)
    expected = unet.denoise(pixels)
    assert expected.shape == (1, 18, 20, 3)
    for images in (pixels / 255, pixels[np.newaxis], path, str(path), Image.fromarray(pixels), [path]):
        np.testing.assert_allclose(unet.denoise(images), expected, atol=1e-5)
    assert unet.denoise([path, Image.fromarray(pixels)]).shape == (2, 18, 20, 3)
    assert unet.denoise("mnist:3").shape == (1, 28, 28, 3)


def test_a_unet_refuses_arrays_that_are_not_images_of_its_channels(unet: Autoencoder) -> None:
    for shape in ((3, 18, 20), (18, 20, 4), (2, 18, 20, 2), (0, 18, 20, 3), (18,)):
        with pytest.raises(
            VaectlError, match=r"of shape \(N, height, width, 3\), channels last, or gray ones of \(N, height, width, 1\)"
        ):
            unet.denoise(np.zeros(shape, np.uint8))


def test_a_unet_of_color_takes_gray_arrays(unet: Autoencoder) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (2, 18, 20, 1), np.uint8)
    expected = unet.denoise(np.repeat(gray, 3, axis=3))
    np.testing.assert_array_equal(unet.denoise(gray), expected)
    for first in (gray[0], gray[0, ..., 0]):
        np.testing.assert_array_equal(unet.denoise(first), expected[:1])


def test_a_unet_has_no_latent(unet: Autoencoder) -> None:
    uses: list[Callable[[], object]] = [
        lambda: unet.encode(np.zeros((1, 8, 8, 3))),
        lambda: unet.decode(np.zeros((1, 2))),
    ]
    for use in uses:
        with pytest.raises(VaectlError, match="has no latent"):
            use()
    with pytest.raises(VaectlError, match="has no latent"):
        unet.sample()


def test_samples_of_q_follow_the_posterior(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    mu, logvar = model.posterior(digits[:1])
    np.testing.assert_array_equal(model.encode(digits[:1]), mu)
    z = model.encode(np.repeat(digits[:1], 4000, axis=0), rng=np.random.default_rng(0))
    np.testing.assert_allclose(z.mean(0), mu[0], atol=0.06)
    np.testing.assert_allclose(z.std(0), np.exp(logvar[0] / 2), rtol=0.05)


def test_samples_of_the_prior_are_decoded_and_repeatable(vae: Path, ae: Path) -> None:
    model = vaectl.load(vae)
    images = model.sample(5, seed=3)
    assert images.shape == (5, 28, 28, 1)
    np.testing.assert_array_equal(images, model.sample(5, seed=3))
    np.testing.assert_array_equal(images, model.decode(model.sample_latents(5, seed=3)))
    assert (images != model.sample(5, seed=4)).any()
    assert model.sample().shape == (1, 28, 28, 1)
    z = model.sample_latents(20000, prior="normal", temperature=2)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(z.std(0), 2, atol=0.06)
    assert vaectl.load(ae).sample(3).shape == (3, 28, 28, 1)
    with pytest.raises(VaectlError, match="not a prior of this ae"):
        vaectl.load(ae).sample(prior="normal")
    with pytest.raises(UsageError, match="choose one of learned, normal"):
        model.sample(prior="uniform")


def test_a_saved_model_is_the_same_file(vae: Path, tmp_path: Path) -> None:
    vaectl.load(vae).save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == vae.read_bytes()
    with pytest.raises(VaectlError, match="no such file"):
        vaectl.load(vae).save(tmp_path / "missing" / "copy.safetensors")


def test_the_torch_modules_compute_what_the_model_does(vae: Path, ae: Path, digits: NDArray[np.uint8]) -> None:
    images = torch.from_numpy(digits).float() / 255
    for path in (vae, ae):
        model = vaectl.load(path)
        encoder, decoder = model.torch()
        assert encoder
        with torch.inference_mode():
            encoded = encoder(images)
            decoded = decoder(encoded[:, : model.latent_dim])
        expected = np.concatenate(model.posterior(digits), axis=1) if path == vae else model.encode(digits)
        np.testing.assert_allclose(encoded.numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(decoded.numpy(), model.reconstruct(digits), atol=1e-4)


def test_the_torch_module_of_a_unet_is_its_decoder_alone(unet: Autoencoder) -> None:
    photos = np.random.default_rng(0).random((2, 16, 24, 3), np.float32)
    modules = unet.torch()
    assert modules.encoder is None
    with torch.inference_mode():
        np.testing.assert_allclose(modules.decoder(torch.from_numpy(photos)).numpy(), unet.denoise(photos), atol=1e-4)


def test_training_a_torch_module_does_not_change_the_model(vae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    z = model.encode(digits)
    before = model.decode(z)
    decoder, images = model.torch().decoder, torch.from_numpy(digits).float() / 255
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(decoder[:-1](torch.from_numpy(z)), images)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.98 * losses[0]
    np.testing.assert_array_equal(model.decode(z), before)
    np.testing.assert_allclose(model.torch().decoder(torch.from_numpy(z)).detach().numpy(), before, atol=1e-4)


def test_a_model_knows_its_card_its_image_shape_and_its_latent_dimension(vae: Path) -> None:
    model = vaectl.load(vae)
    assert (model.card.model, model.image_shape, model.latent_dim) == ("vae", (28, 28, 1), 2)


def test_no_images_give_no_latents(vae: Path) -> None:
    model = vaectl.load(vae)
    assert model.encode(np.zeros((0, 28, 28), np.uint8)).shape == (0, 2)
    assert model.decode(np.zeros((0, 2))).shape == (0, 28, 28, 1)


def test_arrays_of_the_wrong_shape_or_range_are_refused(vae: Path, ae: Path, digits: NDArray[np.uint8]) -> None:
    model = vaectl.load(vae)
    with pytest.raises(VaectlError, match=r"images of shape \(N, 28, 28, 1\), channels last, are expected"):
        model.encode(digits[:, :27])
    with pytest.raises(VaectlError, match=r"not in \[0, 1\]"):
        model.encode(digits * 1.0)
    with pytest.raises(VaectlError, match=r"latents of shape \(N, 2\)"):
        model.decode(np.zeros((3, 4)))
    with pytest.raises(VaectlError, match="NaN"):
        model.decode([[np.nan, 0]])
    with pytest.raises(VaectlError, match="use a vae"):
        vaectl.load(ae).posterior(digits)


def test_a_model_is_shown_in_one_line_without_its_weights(vae: Path) -> None:
    assert repr(vaectl.load(vae)) == "<Autoencoder: vae, images 28 x 28 x 1, latent_dim 2>"


def test_only_a_denoiser_denoises() -> None:
    with pytest.raises(VaectlError, match="this vae was trained on clean images: use a dae"):
        vaectl.load(FIXTURES / "vae.safetensors").denoise("mnist:3")


def test_a_warning_points_at_the_line_that_called_vaectl(digits: NDArray[np.uint8]) -> None:
    with pytest.warns(VaectlWarning, match="too few images") as caught:
        vaectl.train("ae", digits[:2], latent_dim=2, hidden=[4], epochs=1)
    assert [warning.filename for warning in caught if warning.category is VaectlWarning] == [__file__]
