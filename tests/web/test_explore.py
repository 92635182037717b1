import hashlib
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wasmtime
from browsing import Browser
from numpy.typing import NDArray
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support import Result, edit_safetensors, one_line, write_png

import vaectl
from vaectl.datasets.load import Dataset
from vaectl.models import numpy_engine
from vaectl.models.layers import LAYERS, layers_to_json
from vaectl.models.network import build_conv, build_mlp, build_unet, half_weights
from vaectl.web.page import ASSETS

Call = Callable[..., Result]

NETWORKS = {
    "mlp": build_mlp((6, 5, 3), 4, [50, 30], variational=True),
    "conv": build_conv((13, 10, 3), 4, [6, 8, 9], variational=True),
    "unet": build_unet((24, 16, 3), [6, 8]),
}
RUN_ENGINE = """
const [layers, weights, data, shape, done] = arguments;
const source = document.getElementById("engine").textContent;
const worker = new Worker(URL.createObjectURL(new Blob([source])));
worker.onmessage = ({data: {tensor, error}}) => done(error ?? {data: [...tensor.data], shape: tensor.shape});
worker.postMessage({wasm: decodeBase64(document.getElementById("wasm").textContent), halves: {half: {layers, weights}}});
worker.postMessage({id: 0, half: "half", tensor: {data: Float32Array.from(data), shape}});
"""


@pytest.fixture(scope="session")
def page(models: Path, make_once: Callable[..., Path], run_in: Callable[..., None]) -> Path:
    def make(folder: Path) -> None:
        run_in(folder, "explore", "mnist:test", "-c", str(models / "vae.safetensors"), "-o", "latent.html", "-n", "1429", "-q")

    return make_once("page", make) / "latent.html"


def content(path: Path) -> dict[str, object]:
    """The model in a page."""
    found = re.search(r'<script type="application/json" id="model">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found
    values: dict[str, object] = json.loads(found[1])
    return values


@pytest.mark.parametrize(
    ("net", "half"), [(name, half) for name, net in NETWORKS.items() for half, layers in net.halves() if layers]
)
def test_the_page_computes_what_numpy_computes(net: str, half: str, browser: Browser, page: Path) -> None:
    network = NETWORKS[net]
    layers = dict(network.halves())[half]
    rng = np.random.default_rng(0)
    shapes = half_weights(half, network.weight_shapes())
    weights = {
        name: (0.5 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    shape = (3, network.latent_dim) if half == "decoder" and network.has_latent else (3, *network.image_shape)
    batch = rng.random(shape, np.float32)
    browser.open(page)
    flat = {name: weight.ravel().tolist() for name, weight in weights.items()}
    found = browser.chrome.execute_async_script(RUN_ENGINE, layers_to_json(layers), flat, batch.ravel().tolist(), shape)
    expected = numpy_engine.make_forward(layers, weights)(batch)
    assert tuple(found["shape"]) == expected.shape
    np.testing.assert_allclose(np.array(found["data"]).reshape(expected.shape), expected, atol=1e-4)


def test_a_browser_without_simd_is_told_what_to_do(browser: Browser, page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub(r'(id="wasm">)[^<]*', r"\1AAAA", page.read_text()))
    browser.chrome.get(broken.as_uri())
    browser.wait_for("!document.getElementById('problem').hidden")
    assert "WebAssembly with SIMD" in browser.run("return document.getElementById('problem').textContent")


def test_the_binary_of_the_kernel_is_that_of_its_source() -> None:
    assert wasmtime.wat2wasm((ASSETS / "multiply.wat").read_text()) == (ASSETS / "multiply.wasm").read_bytes()


def test_the_vendored_library_is_the_one_that_npm_distributes() -> None:
    digest = hashlib.sha256((ASSETS / "vendor" / "gifenc.js").read_bytes()).hexdigest()
    assert digest == "ab1ff6a05a05ddb85f642ae4c3f96d9e69e56fcfc472982172b088344e0fdb59"  # gifenc 1.0.3


def test_the_engine_of_the_page_knows_every_layer(page: Path) -> None:
    operations = re.search(r"const OPERATIONS = \{(.*?)\n\};", page.read_text(), re.DOTALL)
    assert operations and set(re.findall(r"^  (\w+)[:,]", operations[1], re.MULTILINE)) == set(LAYERS)


def test_a_page_opens_from_its_file_without_errors_or_requests(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.complaints() == []
    assert browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") in (
        [],
        ["data:"],
    )
    assert "mnist:test" in browser.text("lead") and "2 numbers" in browser.text("lead")


def test_a_page_refuses_scripts_and_requests_that_are_not_its_own(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        "const own = document.createElement('script'); own.textContent = 'window.hacked = true'; document.body.append(own);"
        "fetch('data:,x').catch(() => { document.body.dataset.refused = 'true' })"
    )
    browser.wait_for("document.body.dataset.refused")
    assert browser.run("return window.hacked") is None


def test_a_point_of_the_map_is_decoded_as_vaectl_decodes_it(
    run: Call, vae: Path, browser: Browser, page: Path, tmp_path: Path
) -> None:
    browser.open(page)
    seen = set()
    for place in ((0.3, 0.4), (0.6, 0.7)):
        browser.after_decoding(partial(browser.click_map, *place))
        np.save(tmp_path / "z.npy", browser.latent())
        run("decode", "z.npy", "-c", vae, "-o", "decoded.png")
        decoded = np.asarray(Image.open(tmp_path / "decoded.png"), int)
        assert np.abs(browser.pixels("decoded")[..., 0] - decoded).max() <= 1
        seen.add(decoded.tobytes())
    assert len(seen) == 2


def test_moving_the_pointer_decodes_without_a_click(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.after_decoding(lambda: browser.move(0.2, 0.2))
    first = browser.pixels("decoded")
    browser.after_decoding(lambda: browser.move(0.8, 0.8))
    assert np.abs(browser.pixels("decoded").astype(int) - first).max() > 50


def test_sliders_and_captions_follow_the_pointer_and_nothing_jumps(browser: Browser, page: Path) -> None:
    def state() -> list[Any]:
        return list(
            browser.run(
                "const id = (name) => document.getElementById(name), slider = document.querySelector('#sliders output');"
                "return [slider.textContent, id('decoded-caption').textContent, id('sample').getBoundingClientRect().top]"
            )
        )

    browser.open(page)
    browser.wait_for("Number(document.body.dataset.decoded) > 0")
    chosen = state()
    status = browser.text("status")
    browser.click("show-images")  # between dots, there is nothing to compare
    browser.after_decoding(lambda: browser.move(0.1, 0.15))
    hovered = state()
    assert hovered[0] != chosen[0] and hovered[1].startswith("Decoded below the pointer: z = (") and hovered[2] == chosen[2]
    assert not browser.chrome.find_element(By.ID, "original").is_displayed()
    browser.after_decoding(lambda: browser.click("sample-label"))  # the pointer leaves the map
    assert state() == chosen and browser.text("status") == status


def test_the_map_shows_all_dots_after_the_window_changes(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click("show-images")  # or a click might choose one
    try:
        browser.chrome.set_window_size(400, 900)
        browser.wait_for("document.getElementById('map').clientWidth < 400")
        browser.after_decoding(lambda: browser.click_map(0.02, 0.5))
        assert browser.latent()[0, 0] < -3
    finally:
        browser.chrome.set_window_size(1200, 1000)


def test_the_first_image_is_shown_beside_its_reconstruction(
    run: Call, vae: Path, browser: Browser, page: Path, mnist: Dataset, tmp_path: Path
) -> None:
    browser.open(page)
    browser.wait_for("Number(document.body.dataset.decoded) > 0")
    assert "mnist-test-00000, 7" in browser.text("status")
    run("encode", "mnist:0", "-c", vae, "-o", "z.npy")
    np.testing.assert_allclose(browser.latent(), np.load(tmp_path / "z.npy"), atol=1e-3)
    np.testing.assert_array_equal(browser.pixels("original")[..., 0], mnist.test[0][..., 0])


def test_a_dropped_image_is_encoded_as_vaectl_encodes_it(
    run: Call, vae: Path, browser: Browser, page: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 256, (7, 9, 3)), np.ones((13, 11, 1)))
    image = write_png(tmp_path / "large.png", smooth.astype(np.uint8))
    run("encode", image, "-c", vae, "-o", "z.npy")
    browser.open(page)
    browser.after_decoding(lambda: browser.drop(image))
    browser.wait_for("document.getElementById('status').textContent.startsWith('large.png')")
    np.testing.assert_allclose(browser.latent(), np.load(tmp_path / "z.npy"), atol=0.02)


def test_a_file_is_opened_without_dropping_it_too(browser: Browser, page: Path, digits_folder: Path) -> None:
    browser.open(page)
    image = next(digits_folder.rglob("*.png"))
    browser.chrome.find_element(By.ID, "file").send_keys(str(image))
    browser.wait_for(f"document.getElementById('status').textContent.startsWith({image.name!r})")


def test_files_that_the_model_cannot_take_are_refused_in_words(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    np.save(tmp_path / "wide.npy", np.zeros((2, 5), np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((2, 2), int))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:40])
    for name, words in {
        "wide.npy": "wide.npy holds latents of 5 dimensions, but this model has 2: encode with the same checkpoint",
        "whole.npy": "whole.npy does not hold latents",
        "cut.npy": "cut.npy",
        "broken.png": "broken.png is not an image that this browser can read",
    }.items():
        browser.drop(tmp_path / name)
        browser.wait_for(f"document.getElementById('problem').textContent.includes({words!r})")


def test_latents_of_the_model_become_dots(run: Call, vae: Path, browser: Browser, page: Path, tmp_path: Path) -> None:
    run("encode", "mnist:5", "mnist:6", "-c", vae, "-o", "z.npy")
    browser.open(page)
    browser.drop(tmp_path / "z.npy")
    browser.wait_for("document.getElementById('status').textContent.startsWith('z.npy, row 1')")
    np.testing.assert_array_equal(browser.latent(), np.load(tmp_path / "z.npy")[1:])


def test_dragging_from_one_image_to_another_walks_there(
    run: Call, vae: Path, browser: Browser, page: Path, tmp_path: Path
) -> None:
    first, last = places_of_two_images(browser, page, vae)
    browser.drag(first, last)
    browser.wait_for("document.getElementById('walk-position').value === '1'")
    assert browser.text("walk-title").startswith("Walk from mnist-test-")
    end = browser.latent()
    walk = Image.open(browser.save("save-walk", "walk.gif"))
    walk.seek(29)
    shown = np.asarray(walk.convert("L"), int)[4::9, 4::9]
    np.save(tmp_path / "z.npy", end)
    run("decode", "z.npy", "-c", vae, "-o", "decoded.png")
    assert np.abs(shown - np.asarray(Image.open(tmp_path / "decoded.png"), int)).max() < 12  # a GIF has 256 colors


def places_of_two_images(browser: Browser, page: Path, vae: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where two images are on the map, as fractions of its width and height."""
    browser.open(page)
    browser.click("show-images")  # or a click would choose the nearest one
    corners = []
    for place in (0.2, 0.8):
        browser.click_map(place, place)
        corners.append(browser.latent()[0])
    browser.click("show-images")
    z = vaectl.load(vae).encode(["mnist:7", "mnist:14"])
    places = 0.2 + 0.6 * (z - corners[0]) / (corners[1] - corners[0])
    assert ((places > 0) & (places < 1)).all()
    return tuple(places[0]), tuple(places[1])


def test_the_keyboard_does_what_the_pointer_does(browser: Browser, page: Path) -> None:
    browser.open(page)
    start = browser.latent()
    browser.press("ARROW_RIGHT", "ARROW_UP")
    moved = browser.latent()
    assert (moved > start).all()
    browser.press("n")
    assert "mnist-test-" in browser.text("status")
    browser.press("0")
    np.testing.assert_array_equal(browser.latent(), 0)
    browser.press("w", "n", "w")
    browser.wait_for("document.getElementById('walk-position').value === '1'")


def test_a_finger_decodes_chooses_and_walks_and_two_zoom(browser: Browser, page: Path, vae: Path) -> None:
    first, last = places_of_two_images(browser, page, vae)
    browser.touch([first, last])
    browser.wait_for("document.getElementById('walk-position').value === '1'")
    browser.click("show-images")  # from here on, fingers choose points
    browser.touch([(0.2, 0.2)])
    corner = browser.latent()
    browser.after_decoding(lambda: browser.touch([(0.2, 0.2), (0.5, 0.5), (0.8, 0.8)]))
    opposite = browser.latent()
    browser.touch([(0.4, 0.4), (0.2, 0.2)], [(0.6, 0.6), (0.8, 0.8)])
    browser.touch([(0.2, 0.2)])
    zoomed = browser.latent()
    browser.touch([(0.8, 0.8)])
    np.testing.assert_allclose((browser.latent() - zoomed) / (opposite - corner), 1 / 3, atol=0.05)


def test_sliders_move_one_dimension_and_say_so(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = browser.latent()[0]
    browser.after_decoding(
        lambda: browser.chrome.find_element(By.CSS_SELECTOR, "#sliders input").send_keys(Keys.ARROW_RIGHT * 20)
    )
    after = browser.latent()[0]
    assert (before != after).sum() == 1 and "z = (" in browser.text("status")


def test_samples_of_a_label_look_like_it(browser: Browser, page: Path, vae: Path) -> None:
    browser.open(page)
    prior = vaectl.load(vae).checkpoint.prior
    assert prior
    drawn = browser.chrome.execute_async_script(
        "const done = arguments[0];"
        "readTensors().then((tensors) => done(Array.from({length: 400}, () => [...sampleLatent(tensors, '1')])))"
    )
    # Of samples of the label, two in three are classified as it, and one in eight of all samples.
    assert prior.classify(np.array(drawn, np.float32)).count("1") >= 160
    browser.run("document.getElementById('sample-label').value = '1'")
    browser.click("sample")
    assert "A sample of 1" in browser.text("status")


def test_names_and_labels_are_text_whatever_they_contain(
    run: Call, vae: Path, browser: Browser, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "data" / "<script>window.hacked = 1<!--<img src=x onerror=hacked()>"
    folder.mkdir(parents=True)
    for index in range(3):
        write_png(folder / f"<b>{index}.png", digits[index])
    hostile_card = {"model": "</script><script>window.hacked = 2</script>"}
    edit_safetensors(tmp_path / "x.safetensors", lambda card, header: card.update(hostile_card), source=vae)
    run("explore", "data", "-c", "x.safetensors", "-o", "latent.html")
    browser.open(tmp_path / "latent.html")
    assert browser.run("return window.hacked") is None and browser.complaints() == []
    assert "onerror" in browser.text("legend") and "<b>0.png" in browser.text("status")


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_sticks_out_of_a_window(width: int, browser: Browser, page: Path) -> None:
    browser.chrome.set_window_size(width, 900)
    try:
        browser.open(page)
        assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    finally:
        browser.chrome.set_window_size(1200, 1000)


def test_a_map_of_more_dimensions_has_principal_components(run: Call, ae: Path, browser: Browser, tmp_path: Path) -> None:
    run("explore", "mnist:test", "-n", 50, "-c", ae, "-o", "latent.html", "-q")
    browser.open(tmp_path / "latent.html")
    assert browser.run("return document.getElementById('across').selectedOptions[0].textContent") == "1st principal component"
    browser.after_decoding(lambda: browser.click_map(0.5, 0.5))
    run("decode", browser.save("save-latent", "latent.npy"), "-c", ae, "-o", "decoded.png")
    assert np.abs(browser.pixels("decoded")[..., 0] - np.asarray(Image.open(tmp_path / "decoded.png"), int)).max() <= 1


def test_a_page_without_images_still_decodes(run: Call, vae: Path, browser: Browser, tmp_path: Path) -> None:
    run("explore", "--count", 0, "-c", vae, "-o", "latent.html")
    browser.open(tmp_path / "latent.html")
    browser.after_decoding(lambda: browser.click_map(0.4, 0.4))
    assert browser.pixels("decoded").max() > 50


@pytest.mark.parametrize("sigma", [20, 60])  # for an expert, and for none
def test_a_unet_denoises_photographs_as_vaectl_does(sigma: int, run: Call, browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = np.linspace(40, 200, 37 * 61 * 3).reshape(37, 61, 3)
    photo = write_png(tmp_path / "photo.png", np.clip(clean + rng.normal(0, sigma, clean.shape), 0, 255).astype(np.uint8))
    run("explore", "-c", "photo", "-o", "denoise.html")
    run("denoise", photo, "-c", "photo", "-o", "denoised.png")
    browser.open(tmp_path / "denoise.html")
    browser.drop(photo)
    browser.wait_for("document.body.dataset.denoised")
    found = np.asarray(Image.open(browser.save("save-image", "photo-denoised.png")).convert("RGB"), int)
    assert np.abs(found - np.asarray(Image.open(tmp_path / "denoised.png"), int)).max() <= 1
    assert browser.complaints() == []


def test_a_model_without_latent_takes_no_images(run: Call) -> None:
    result = run("explore", "mnist:0", "-c", "photo", "-o", "x.html", code=2)
    one_line(result, "photo has no latent to explore: leave out the images")


def test_a_sample_of_many_images_is_taken_and_said(run: Call, vae: Path, tmp_path: Path) -> None:
    result = run("explore", "mnist:test", "-n", 40, "-c", vae, "-o", "latent.html")
    one_line(result, "showing 40 of 10,000 images: use --count to change the number")
    images = content(tmp_path / "latent.html")["images"]
    assert isinstance(images, dict)
    assert images["names"][:2] == ["mnist-test-00000", "mnist-test-00250"] and len(images["names"]) == 40
    assert len(set(images["labels"])) == 10


def test_a_stream_of_unknown_length_gives_its_first_images(
    run: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    stream = b"".join(write_png(tmp_path / f"{index}.png", digits[index]).read_bytes() for index in range(5))
    result = run("explore", "-", "-n", 3, "-c", vae, input=stream)
    assert b"showing the first 3 images: use --count to change the number" in result.stderr
    (tmp_path / "piped.html").write_bytes(result.stdout)
    images = content(tmp_path / "piped.html")["images"]
    assert isinstance(images, dict) and len(images["names"]) == 3


def test_a_stream_of_as_many_images_as_are_shown_is_shown_whole(run: Call, ae: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((256, 28, 28), np.uint8))  # a batch
    result = run("explore", "-", "-n", 256, "-c", ae, input=(tmp_path / "a.npy").read_bytes() * 2)
    assert b"showing the first 256 images" in result.stderr
    assert not run("explore", "-", "-n", 256, "-c", ae, input=(tmp_path / "a.npy").read_bytes()).stderr


def test_images_that_cannot_be_read_end_it_or_are_skipped(run: Call, vae: Path, tmp_path: Path, digits_folder: Path) -> None:
    (digits_folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    one_line(run("explore", digits_folder, "-c", vae, "-o", "x.html", code=1), "broken.png", "--skip-bad")
    assert not (tmp_path / "x.html").exists()
    run("explore", digits_folder, "-c", vae, "-o", "x.html", "--skip-bad")
    assert (tmp_path / "x.html").exists()


def test_without_images_those_that_the_model_was_tested_on_are_shown(run: Call, vae: Path, tmp_path: Path) -> None:
    run("explore", "-c", vae, "-o", "latent.html")
    images = content(tmp_path / "latent.html")["images"]
    assert isinstance(images, dict) and len(images["names"]) == 500 and images["label_names"] == [*"0123456789"]


def test_data_that_are_gone_and_other_suffixes_are_told_in_words(run: Call, vae: Path, tmp_path: Path) -> None:
    edit_safetensors(tmp_path / "x.safetensors", lambda card, header: card["data"].update(name="gone.npz"), source=vae)
    result = run("explore", "-c", "x.safetensors", "-o", "x.html", code=1)
    one_line(result, "'gone.npz', which is not on this machine: give IMAGES, or --count 0")
    one_line(run("explore", "mnist:0", "-c", vae, "-o", "x.png", code=2), "this command writes html: change the suffix of -o")


def test_python_makes_the_same_page(vae: Path, digits: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.warns(vaectl.VaectlWarning, match="showing 10 of 64 images"):
        (tmp_path / "latent.html").write_bytes(vaectl.explore(vae, digits, count=10))
    images = content(tmp_path / "latent.html")["images"]
    assert isinstance(images, dict)
    assert images["names"] == [f"image-{index:05d}" for index in range(0, 64, 7)]
    with pytest.raises(vaectl.VaectlError, match="has no latent to explore"):
        vaectl.explore("photo", digits)
