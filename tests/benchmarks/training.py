"""Time, memory and quality of training, compared with the study's training loop in one run.

python tests/benchmarks/training.py
"""

import json
import sys
import tempfile
from pathlib import Path

from measure import VAECTL, Measurement, measure, median_seconds

STUDY = str(Path(__file__).with_name("study.py"))

RUNS = {
    "vaectl train vae --epochs 2": ["vae", "--epochs", "2"],
    "vaectl train vae --latent 2": ["vae", "--latent", "2"],
    "vaectl train vae": ["vae"],
    "vaectl train dae": ["dae"],
    "vaectl train ae": ["ae"],
}


def train(arguments: list[str], folder: Path) -> tuple[Measurement, dict[str, float]]:
    """Train a model; returns the measurement and the metrics of its checkpoint."""
    run = measure([VAECTL, "train", *arguments, "-f", "-q", "-o", "model.safetensors"], folder)
    card = json.loads(measure([VAECTL, "info", "--json", "model.safetensors"], folder).output)
    return run, card["metrics"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quick = [train(RUNS["vaectl train vae --epochs 2"], folder)[0] for _ in range(3)]
        study = measure([sys.executable, STUDY, "10", "10"], folder)
        quick += [train(RUNS["vaectl train vae --epochs 2"], folder)[0] for _ in range(3)]
        print(f"study, 10 epochs: {study.seconds:.1f} s, {study.output.strip().splitlines()[-1]}")
        ratio = study.seconds / median_seconds(quick)
        print(f"vaectl train vae --epochs 2: {median_seconds(quick):.1f} s, {ratio:.1f} times faster")
        for label, arguments in RUNS.items():
            run, metrics = train(arguments, folder)
            quality = ", ".join(f"{name} {metrics[name]:.4g}" for name in ("neg_elbo", "mse", "psnr"))
            share = run.seconds / study.seconds
            print(f"{label:<30}{run.seconds:6.1f} s ({share:.0%} of the study)  {run.megabytes:5.0f} MB  {quality}")


if __name__ == "__main__":
    main()
