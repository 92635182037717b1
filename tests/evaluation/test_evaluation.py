import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import FIXTURES, Result

import vaectl
from vaectl import VaectlError
from vaectl.base.errors import UsageError

Call = Callable[..., Result]


def test_evaluate_gives_the_metrics_of_the_command(run: Call, vae: Path, digits_folder: Path) -> None:
    for options, arguments in (
        ({"samples": 3, "seed": 2}, ["--samples", 3, "--seed", 2]),
        (
            {"data": str(digits_folder), "samples": 0, "corrupt": ["gaussian:0.1"]},
            ["--data", digits_folder, "--samples", 0, "--corrupt", "gaussian:0.1"],
        ),
        ({"data": "mnist:3", "samples": 5, "binarize": True}, ["--data", "mnist:3", "--samples", 5, "--binarize"]),
    ):
        found = json.loads(run("evaluate", "-c", vae, "--json", *arguments).stdout)
        evaluation = vaectl.evaluate(vae, **options)
        assert evaluation.metrics == pytest.approx(found["metrics"], rel=1e-4)
        assert asdict(evaluation).keys() <= found.keys()
        assert (evaluation.images, evaluation.split) == (found["images"], found["split"])
        assert vaectl.evaluate(vaectl.load(vae), **options).metrics == pytest.approx(evaluation.metrics)


def test_evaluate_takes_arrays_in_memory(vae: Path, digits: NDArray[np.uint8]) -> None:
    images = digits[:30]
    on_tuple = vaectl.evaluate(vae, (digits[30:], images), samples=0)
    assert (on_tuple.images, on_tuple.data, on_tuple.split) == (30, "array", "test")
    assert "nll" not in on_tuple.metrics and on_tuple.samples is None
    assert vaectl.evaluate(vae, (images, digits[30:]), split="train", samples=0).metrics == pytest.approx(on_tuple.metrics)


def test_evaluate_reports_batches_by_name(vae: Path, digits_folder: Path) -> None:
    names: list[str] = []
    evaluation = vaectl.evaluate(vae, digits_folder, samples=0, on_batch=lambda batch, *others: names.extend(batch))
    assert names == [*(f"{index:02d}.png" for index in range(10)), "more/10.png", "more/11.png"]
    assert (evaluation.images, evaluation.split) == (12, "whole")
    assert evaluation.metrics["neg_elbo"] == pytest.approx(evaluation.metrics["reconstruction"] + evaluation.metrics["kl"])


def test_a_split_without_images_is_refused(vae: Path, digits: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", digits[:1])
    with pytest.raises(VaectlError, match=r"one\.npy' has no test images: try --split train"):
        vaectl.evaluate(vae, tmp_path / "one.npy", samples=0)
    with pytest.raises(UsageError, match="split='valid'"):
        vaectl.evaluate(vae, digits, split="valid")


def test_data_in_memory_are_not_found_again_by_name(digits: NDArray[np.uint8]) -> None:
    model = vaectl.train("ae", digits, latent_dim=2, hidden=[8], epochs=1)
    with pytest.raises(VaectlError, match="array"):
        vaectl.evaluate(model)
    assert vaectl.evaluate(model, digits, samples=0).images == len(digits)


@pytest.mark.parametrize("name", ["vae.safetensors", "unet.safetensors"])
def test_one_image_of_a_data_set_is_evaluated_alone(name: str, digits: NDArray[np.uint8]) -> None:
    evaluation = vaectl.evaluate(FIXTURES / name, "mnist:3", samples=0)
    assert (evaluation.images, evaluation.split, evaluation.data) == (1, "whole", "mnist:3")
