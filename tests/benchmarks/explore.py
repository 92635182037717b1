"""The pages of `vaectl explore` in headless Chromium: size, time to make and to open, decoded images and frames a second.

python tests/benchmarks/explore.py

The networks are untrained: their speed is that of trained ones.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from measure import VAECTL, measure, median_seconds

sys.path.insert(0, str(Path(__file__).parents[1] / "web"))

from browsing import Browser, start_chromium

from vaectl.datasets.named import DatasetImages
from vaectl.images.resize import from_uint8
from vaectl.models import checkpoint
from vaectl.models.checkpoint import Card, Checkpoint
from vaectl.models.latents import compute_stats
from vaectl.models.presets import build_network

N_IMAGES = 2000
RUNS = 5
SECONDS = 2.0

# Asks for the next image as soon as one is there.
DECODE = """
const [seconds, done] = arguments;
(async () => {
  const engine = new Engine(await readTensors());
  const z = () => Float32Array.from({length: model.network.latent_dim}, () => Math.random());
  const one = () => engine.run("decoder", z(), [1, model.network.latent_dim]);
  for (let index = 0; index < 20; index++) await one();
  let count = 0;
  const start = performance.now();
  while (performance.now() - start < 1000 * seconds) { await one(); count++; }
  done(1000 * count / (performance.now() - start));
})();
"""
# Zooms in every frame.
FRAMES = """
const [seconds, done] = arguments;
const map = document.getElementById("map"), start = performance.now();
let count = 0;
requestAnimationFrame(function frame(now) {
  if (now - start > 1000 * seconds) return done(1000 * count / (now - start));
  count++;
  map.dispatchEvent(new WheelEvent("wheel", {deltaY: count % 2 ? 20 : -20, clientX: 300, clientY: 400}));
  requestAnimationFrame(frame);
});
"""


def write_checkpoint(path: Path, architecture: str, image_shape: tuple[int, int, int], latent_dim: int) -> None:
    """Write a VAE with random weights."""
    rng = np.random.default_rng(0)
    network = build_network("vae", architecture, image_shape, latent_dim, variational=True)
    shapes = network.weight_shapes()
    weights = {
        name: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32) for name, shape in shapes.items()
    }
    stats = compute_stats(rng.standard_normal((100, latent_dim)).astype(np.float32))
    card = Card("vae", network, "crop", "bernoulli", None, 1.0, [], stats, {}, {}, {}, [], {})
    checkpoint.save(str(path), Checkpoint(card, weights))


def write_images(path: Path, image_shape: tuple[int, int, int]) -> None:
    """Write digits of this shape as an array."""
    height, width, channels = image_shape
    digits = (from_uint8(pixels) for pixels, _ in islice(DatasetImages("mnist").labeled(), N_IMAGES))
    resized = (digit.resize((width, height)).convert("L" if channels == 1 else "RGB") for digit in digits)
    np.save(path, np.stack([np.asarray(image).reshape(image_shape) for image in resized]))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, start_chromium(Path(name)) as chrome:
        folder, browser = Path(name), Browser(chrome, Path(name))
        print(f"{'':<22}{'MB':>8}{'made in':>10}{'of encode':>11}{'opened in':>11}{'decoded/s':>11}{'frames/s':>10}")
        for architecture, image_shape, latent_dim in (("mlp", (28, 28, 1), 2), ("conv", (64, 64, 3), 128)):
            write_checkpoint(folder / "vae.safetensors", architecture, image_shape, latent_dim)
            write_images(folder / "images.npy", image_shape)
            images = ["images.npy", "-c", "vae.safetensors"]
            made = [measure([VAECTL, "explore", *images, "-o", "x.html"], folder) for _ in range(RUNS)]
            encoded = [measure([VAECTL, "encode", *images, "-o", "z.npy"], folder) for _ in range(RUNS)]
            start = time.perf_counter()
            browser.open(folder / "x.html")
            opened = time.perf_counter() - start
            time.sleep(5)  # until the plane is decoded
            decoded, frames = (chrome.execute_async_script(script, SECONDS) for script in (DECODE, FRAMES))
            seconds, reference = median_seconds(made), median_seconds(encoded)
            label = f"{architecture}, {' x '.join(map(str, image_shape))}"
            figures = f"{(folder / 'x.html').stat().st_size / 1e6:>8.1f}{seconds:>8.2f} s{seconds / reference:>10.2f}x"
            print(f"{label:<22}{figures}{opened:>9.2f} s{decoded:>11.0f}{frames:>10.0f}")


if __name__ == "__main__":
    main()
