"""How fast networks train on a device, beside its limit for matrix products, and how long an epoch of MNIST takes.

python tests/benchmarks/gpu.py [DEVICE]

DEVICE is that of `vaectl train --device`; without it, the fastest is taken. Epochs do not include validation.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from vaectl.images.corruption import parse_corruptions
from vaectl.io.inputs import read_image_file
from vaectl.models.device import resolve_device
from vaectl.models.layers import count_macs
from vaectl.models.network import Network, build_conv, build_mlp, build_unet
from vaectl.training import loop
from vaectl.training.loader import ImageDataset
from vaectl.training.plan import choose_config
from vaectl.training.settings import Hyperparameters

NETWORKS = {
    "mlp, 28 x 28": (build_mlp((28, 28, 1), 10, [500, 500], variational=True), "mlp", 60_000, ()),
    "conv, 64 x 64 x 3": (build_conv((64, 64, 3), 128, [32, 64, 128, 256], variational=True), "conv", 4096, ()),
    "unet, crops of 64 x 64 x 3": (build_unet((64, 64, 3), [32, 64]), "unet", 1024, ("gaussian:0.1",)),
}
RUNS = 3
CPU_SHARE = 8  # a CPU gets an eighth of the images


def measure_limit(device: str, dtype: torch.dtype) -> float:
    """The most multiply-accumulates a second that large matrix products reach."""
    size = 4096 if device.startswith("cuda") else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = median_seconds(lambda: [a @ b for _ in range(10)], device)
    return 10 * size**3 / seconds


def median_seconds(work: Callable[[], object], device: str) -> float:
    """How long work takes, after a first time that does not count."""
    found = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def epoch_seconds(network: Network, architecture: str, count: int, corrupt: tuple[str, ...], device: str) -> float:
    """How long an epoch takes: the median of all but the first."""
    images = np.random.default_rng(0).integers(0, 256, (count, *network.image_shape), np.uint8)
    dataset = ImageDataset(images, device)
    likelihood = "bernoulli" if architecture == "mlp" else "gaussian"
    others = {"beta": float(network.variational), "corrupt": corrupt, "likelihood": likelihood}
    config = choose_config(Hyperparameters(epochs=RUNS + 1, lr=1e-4, **others), architecture, count)
    ends: list[float] = []

    def on_step(trainer: loop.Trainer) -> None:
        if trainer.loader.ends_epoch:
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    loop.train_network(network, dataset, config, parse_corruptions(corrupt, read_image_file), device, on_step=on_step)
    return float(median(np.diff(ends)[1:]))


def main(name: str = "auto") -> None:
    """Print the table."""
    device = resolve_device(name)
    dtype = loop.resolve_dtype("auto", device)
    limit = measure_limit(device, dtype)
    processor = torch.cuda.get_device_name(device) if device.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    print(f"{device} ({processor}), {str(dtype).removeprefix('torch.')}: {2 * limit / 1e12:.2f} TFLOP/s in matrix products")
    print(f"{'':<28}{'epoch':>10}{'images/s':>12}{'of the limit':>14}")
    for name, (network, architecture, count, corrupt) in NETWORKS.items():
        count = count if device.startswith("cuda") else count // CPU_SHARE
        seconds = epoch_seconds(network, architecture, count, corrupt, device)
        shape = network.image_shape
        macs = count_macs(network.encoder, shape) + count_macs(
            network.decoder, (network.latent_dim,) if network.latent_dim else shape
        )
        share = 3 * macs * count / seconds / limit  # forward, and backward twice as much
        print(f"{name:<28}{seconds:>8.2f} s{count / seconds:>12,.0f}{share:>13.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
