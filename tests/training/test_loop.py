import dataclasses
import warnings
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vaectl
from vaectl.base.errors import VaectlError
from vaectl.images.corruption import parse_corruptions
from vaectl.io.inputs import read_image_file
from vaectl.models.network import build_mlp, build_unet
from vaectl.training import loop
from vaectl.training.loader import DataLoader, ImageDataset, RandomCrops
from vaectl.training.loop import Trainer, TrainResult, TrainState, Validate
from vaectl.training.losses import Likelihood
from vaectl.training.metrics import Metrics
from vaectl.training.plan import choose_config
from vaectl.training.progress import Progress
from vaectl.training.settings import Hyperparameters, TrainConfig

CONFIG = TrainConfig(epochs=3, batch_size=16, lr=0.01, beta=1.0, corrupt=(), precision="fp32")
GAUSSIAN = dataclasses.replace(CONFIG, likelihood="gaussian")


@pytest.fixture(scope="module")
def bars() -> NDArray[np.uint8]:
    """64 images of 8 x 8 with one white bar each."""
    images = np.zeros((64, 8, 8, 1), np.uint8)
    for index, image in enumerate(images):
        image[index % 8] = 255
    return images


def fit(images: NDArray[np.uint8], config: TrainConfig, variational: bool = True, **others: Any) -> TrainResult:
    network = build_mlp(tuple(images.shape[1:]), 2, [32], variational=variational)
    return loop.train_network(
        network, ImageDataset(images, "cpu"), config, parse_corruptions(config.corrupt, read_image_file), "cpu", **others
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variational", [True, False])
def test_training_reduces_the_loss(bars: NDArray[np.uint8], precision: str, variational: bool) -> None:
    config = dataclasses.replace(CONFIG, epochs=60, precision=precision, beta=1.0 if variational else 0.0)
    result = fit(bars, config, variational)
    assert result.epochs[-1]["loss"] < 0.5 * result.epochs[0]["loss"]
    assert (result.epochs[-1]["kl"] > 0) == variational
    assert all(weight.dtype == np.float32 for weight in result.weights.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_corruption_goes_with_every_precision(bars: NDArray[np.uint8], precision: str) -> None:
    names = ("gaussian:0.1", "poisson:30", "mask:0.1", "salt-pepper:0.1", "blur:1", "camera", "watermark")
    specs = tuple(f"{name}@0.5" for name in names)
    assert isfinite(fit(bars, dataclasses.replace(CONFIG, precision=precision, corrupt=specs)).epochs[-1]["loss"])


def test_the_same_seed_gives_bit_identical_weights_and_another_seed_does_not(bars: NDArray[np.uint8]) -> None:
    first, second, other = (fit(bars, dataclasses.replace(CONFIG, seed=seed)).weights for seed in (4, 4, 5))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert any(first[name].tobytes() != other[name].tobytes() for name in first)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, likelihood="gaussian", corrupt=("mask:0.3",)),
        dataclasses.replace(CONFIG, binarize=True),
        dataclasses.replace(CONFIG, shift=2),
    ],
    ids=["plain", "gaussian with corruption", "binarized", "shifted"],
)
@pytest.mark.parametrize("step", [0, 1, 3, 4, 7, 11, 12])
def test_training_resumes_bit_identically_from_any_step(bars: NDArray[np.uint8], config: TrainConfig, step: int) -> None:
    states: list[TrainState] = []
    seen: list[Progress] = []
    whole = fit(bars, config, on_step=lambda trainer: states.append(trainer.state_dict()))
    assert [state.step for state in states] == list(range(13))
    resumed = fit(bars, config, on_progress=seen.append, state=states[step])
    assert resumed.epochs == whole.epochs and resumed.sigma == whole.sigma
    assert all(resumed.weights[name].tobytes() == whole.weights[name].tobytes() for name in whole.weights)
    assert all(progress.first_step == step < progress.step for progress in seen)


def norm_near(target: float, images: int = 2) -> Validate:
    """Held-out images that fare the better, the nearer the norm of the weights is to a target."""

    def validate(weights: Mapping[str, NDArray[np.float32]], likelihood: Likelihood) -> Metrics:
        return {"loss": np.full(images, abs(norm(weights) - target))}

    return validate


def norm(weights: Mapping[str, NDArray[np.float32]]) -> float:
    return float(sum(np.square(weight, dtype=np.float64).sum() for weight in weights.values()))


@pytest.fixture
def ends(bars: NDArray[np.uint8]) -> list[dict[str, NDArray[np.float32]]]:
    """The weights of a Gaussian likelihood after each of three epochs."""
    found: list[dict[str, NDArray[np.float32]]] = []

    def on_step(trainer: Trainer) -> None:
        if trainer.loader.step and trainer.loader.ends_epoch:
            found.append({name: weight.copy() for name, weight in trainer.weights().items()})

    fit(bars, GAUSSIAN, on_step=on_step)
    return found


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_weights_of_the_best_epoch_are_the_result(
    bars: NDArray[np.uint8], ends: list[dict[str, NDArray[np.float32]]], epoch: int
) -> None:
    result = fit(bars, GAUSSIAN, validate=norm_near(norm(ends[epoch - 1])))
    assert result.epoch == epoch and result.epochs[epoch - 1]["held_out_loss"] == 0
    assert all(result.weights[name].tobytes() == weight.tobytes() for name, weight in ends[epoch - 1].items())
    assert (result.sigma == fit(bars, GAUSSIAN).sigma) == (epoch == 3)


@pytest.mark.parametrize("step", [3, 8, 9, 12])
def test_a_resumed_run_keeps_the_best_epoch_too(
    bars: NDArray[np.uint8], ends: list[dict[str, NDArray[np.float32]]], step: int
) -> None:
    states: list[TrainState] = []
    validate = norm_near(norm(ends[1]))
    whole = fit(bars, GAUSSIAN, on_step=lambda trainer: states.append(trainer.state_dict()), validate=validate)
    resumed = fit(bars, GAUSSIAN, state=states[step], validate=validate)
    assert (resumed.epoch, resumed.sigma, resumed.epochs) == (2, whole.sigma, whole.epochs)
    assert all(resumed.weights[name].tobytes() == whole.weights[name].tobytes() for name in whole.weights)


def test_an_epoch_that_is_better_by_chance_is_not_kept(
    bars: NDArray[np.uint8], ends: list[dict[str, NDArray[np.float32]]]
) -> None:
    at_best = norm_near(norm(ends[0]))

    def noisy(weights: Mapping[str, NDArray[np.float32]], likelihood: Likelihood) -> Metrics:
        is_best = at_best(weights, likelihood)["loss"].max() == 0
        return {"loss": np.array([0.0, 5.0, 0.0, 5.0] if is_best else [5.0, 0.0, 5.0, 0.5])}

    assert fit(bars, GAUSSIAN, validate=noisy).epoch == 3
    assert fit(bars, GAUSSIAN).epoch == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the standard error of one image is not a number
        assert fit(bars, GAUSSIAN, validate=norm_near(norm(ends[0]), images=1)).epoch == 3


def test_a_denoiser_is_judged_by_its_psnr(bars: NDArray[np.uint8], ends: list[dict[str, NDArray[np.float32]]]) -> None:
    near = norm_near(norm(ends[0]))

    def validate(weights: Mapping[str, NDArray[np.float32]], likelihood: Likelihood) -> Metrics:
        distance = near(weights, likelihood)["loss"]
        return {"loss": -distance, "psnr": 20 - distance, "psnr_before": np.full(2, 10.0)}

    assert fit(bars, GAUSSIAN, validate=validate).epoch == 1


def test_an_epoch_whose_held_out_loss_is_not_a_number_is_not_kept(
    bars: NDArray[np.uint8], ends: list[dict[str, NDArray[np.float32]]]
) -> None:
    near = norm_near(norm(ends[1]))

    def validate(weights: Mapping[str, NDArray[np.float32]], likelihood: Likelihood) -> Metrics:
        loss = near(weights, likelihood)["loss"]
        return {"loss": np.full(2, np.nan) if norm(weights) == norm(ends[0]) else loss}

    assert fit(bars, GAUSSIAN, validate=validate).epoch == 2


def test_training_on_random_crops_resumes_bit_identically() -> None:
    photos = [np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8) for index in range(2)]
    network = build_unet((8, 8, 3), [4, 8])
    config = dataclasses.replace(CONFIG, beta=0.0, likelihood="gaussian", batch_size=1024, epochs=2)
    corruptions = parse_corruptions(["gaussian:0.1"], read_image_file, on_crops=True)
    states: list[TrainState] = []

    def train(state: TrainState | None = None) -> TrainResult:
        return loop.train_network(
            network,
            RandomCrops(photos, (8, 8, 3)),
            config,
            corruptions,
            "cpu",
            on_step=lambda trainer: states.append(trainer.state_dict()),
            state=state,
        )

    whole = train()
    for step in (2, 4, 5):
        resumed = train(states[step])
        assert all(resumed.weights[name].tobytes() == whole.weights[name].tobytes() for name in whole.weights)


def test_a_state_with_an_infinite_value_is_not_saved(bars: NDArray[np.uint8]) -> None:
    def damage(trainer: Trainer) -> None:
        trainer.optimizer.exp_avg_sq[3] = np.inf
        trainer.state_dict()

    with pytest.raises(VaectlError, match="the loss is NaN or infinite at step 0"):
        fit(bars, CONFIG, on_step=damage)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")])
@pytest.mark.parametrize(("samples", "advice"), [(1, r"\(it is 16\)$"), (7, r"\(it is 16\) or --samples \(it is 7\)$")])
def test_running_out_of_memory_says_which_options_to_lower(
    bars: NDArray[np.uint8], error: Exception, samples: int, advice: str
) -> None:
    def fail(progress: Progress) -> None:
        raise error

    with pytest.raises(VaectlError, match=rf"memory ran out: lower --batch-size {advice}"):
        fit(bars, dataclasses.replace(CONFIG, samples=samples), on_progress=fail)


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(bars: NDArray[np.uint8]) -> None:
    def fail(progress: Progress) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fit(bars, CONFIG, on_progress=fail)


def test_training_does_not_change_the_global_random_state(bars: NDArray[np.uint8]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(bars, CONFIG)
    torch.testing.assert_close(torch.rand(3), expected)


def test_progress_reports_epochs_steps_and_the_parts_of_the_loss(bars: NDArray[np.uint8]) -> None:
    seen: list[Progress] = []
    fit(bars, CONFIG, on_progress=seen.append)
    ends = [progress for progress in seen if progress.ends_epoch]
    assert [(end.epoch, end.step, end.steps) for end in ends] == [(1, 4, 12), (2, 8, 12), (3, 12, 12)]
    assert seen[-1].loss == pytest.approx(seen[-1].reconstruction + seen[-1].kl)


def test_a_larger_beta_gives_a_smaller_kl(bars: NDArray[np.uint8]) -> None:
    small, large = (fit(bars, dataclasses.replace(CONFIG, epochs=40, beta=beta)).epochs[-1]["kl"] for beta in (0.1, 10.0))
    assert large < 0.5 * small


def test_training_with_several_samples_of_z_reduces_the_loss(bars: NDArray[np.uint8]) -> None:
    result = fit(bars, dataclasses.replace(CONFIG, epochs=60, samples=4))
    assert result.epochs[-1]["loss"] < 0.5 * result.epochs[0]["loss"]


def test_a_gaussian_likelihood_learns_its_sigma_unless_it_is_given(bars: NDArray[np.uint8]) -> None:
    learned = fit(bars, dataclasses.replace(CONFIG, epochs=100, likelihood="gaussian"))
    assert learned.sigma is not None and 0 < learned.sigma < 0.3
    given = fit(bars, dataclasses.replace(CONFIG, likelihood="gaussian", sigma=0.4))
    assert given.sigma == pytest.approx(0.4)
    assert fit(bars, CONFIG).sigma is None


def test_binarized_gray_costs_the_entropy_of_its_pixels() -> None:
    gray = np.full((64, 6, 6, 1), 26, np.uint8)
    result = fit(gray, dataclasses.replace(CONFIG, epochs=30, binarize=True))
    p = 26 / 255
    entropy = -36 * (p * np.log(p) + (1 - p) * np.log(1 - p))
    assert result.epochs[-1]["reconstruction"] == pytest.approx(entropy, rel=0.1)


def test_fewer_images_than_the_batch_size_make_one_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), np.uint8)
    seen: list[Progress] = []
    result = fit(images, choose_config(Hyperparameters(beta=1.0, corrupt=(), epochs=5), "mlp", 3), on_progress=seen.append)
    assert seen[-1].steps == 5
    assert all(np.isfinite(weight).all() for weight in result.weights.values())


@pytest.mark.parametrize("value", [0, 255])
def test_constant_images_give_finite_weights(value: int) -> None:
    result = fit(np.full((40, 6, 6, 3), value, np.uint8), CONFIG)
    assert all(np.isfinite(weight).all() for weight in result.weights.values())


def test_a_diverging_loss_is_reported_with_its_step(bars: NDArray[np.uint8]) -> None:
    with pytest.raises(VaectlError, match=r"at step \d+: lower --lr \(it is 1e\+20\)"):
        fit(bars, dataclasses.replace(CONFIG, epochs=20, lr=1e20))


def test_the_weight_of_the_kl_rises_to_beta_and_stays() -> None:
    config, loader = (
        dataclasses.replace(CONFIG, beta=2, kl_warmup=2),
        DataLoader(ImageDataset(np.zeros((8, 2, 2, 1), np.uint8), "cpu"), 4, 5, torch.Generator()),
    )
    betas = []
    for step in range(1, loader.steps + 1):
        loader.step = step
        betas.append(loop.get_beta(config, loader))
    assert betas == [0.5, 1, 1.5, 2, *[2] * 6]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    config = dataclasses.replace(CONFIG, lr=0.2, warmup=0.05)
    assert loop.get_lr(config, 0.025) == pytest.approx(0.1)
    assert loop.get_lr(config, 0.05) == pytest.approx(0.2)
    assert loop.get_lr(config, 1) == 0


def test_a_run_of_one_step_learns(digits: NDArray[np.uint8]) -> None:
    once, nothing = (
        vaectl.train("ae", digits[:40], hidden=[8], latent_dim=2, epochs=1, batch_size=36, shift=0, lr=lr).checkpoint.weights
        for lr in (0.01, 1e-12)
    )
    assert all(np.abs(once[name] - nothing[name]).max() > 1e-4 for name in once)


def test_the_precision_is_a_dtype_and_auto_chooses_one() -> None:
    assert loop.resolve_dtype("fp32", "cpu") == torch.float32
    assert loop.resolve_dtype("bf16", "cpu") == torch.bfloat16
    assert loop.resolve_dtype("auto", "mps") == torch.float32
    assert loop.resolve_dtype("auto", "cpu") in (torch.float32, torch.bfloat16)


def test_the_state_of_another_network_is_refused(bars: NDArray[np.uint8]) -> None:
    states: list[TrainState] = []
    fit(bars, CONFIG, on_step=lambda trainer: states.append(trainer.state_dict()))
    smaller = dataclasses.replace(states[0], tensors=states[0].tensors | {"weights": np.zeros(3, np.float32)})
    with pytest.raises(VaectlError, match=r"to another network \(3 weights, not \d+\): start over with --force"):
        fit(bars, CONFIG, state=smaller)
