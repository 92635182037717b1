import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaectl import models, networks, training
from vaectl.batches import Crops, Whole
from vaectl.errors import VaectlError
from vaectl.models import Settings
from vaectl.objective import Bernoulli
from vaectl.states import State
from vaectl.training import Progress

SETTINGS = Settings(epochs=3, batch_size=16, lr=0.01, beta=1.0, corrupt=(), precision="fp32")


@pytest.fixture(scope="module")
def bars() -> NDArray[np.uint8]:
    """64 pictures of one white bar each, 8 x 8."""
    pictures = np.zeros((64, 8, 8, 1), np.uint8)
    for index, picture in enumerate(pictures):
        picture[index % 8] = 255
    return pictures


def fit(
    pictures: NDArray[np.uint8], settings: Settings, variational: bool = True, **others: Any
) -> tuple[training.Trained, list[Progress]]:
    seen: list[Progress] = []
    network = networks.mlp(tuple(pictures.shape[1:]), 2, [32], variational=variational)
    return training.fit(network, Whole(pictures, "cpu"), settings, "cpu", seen.append, **others), seen


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variational", [True, False])
def test_the_loss_falls(bars: NDArray[np.uint8], precision: str, variational: bool) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=60, precision=precision, beta=1.0 if variational else 0.0)
    trained, _ = fit(bars, settings, variational)
    assert trained.epochs[-1]["loss"] < 0.5 * trained.epochs[0]["loss"]
    assert (trained.epochs[-1]["kl"] > 0) == variational
    assert all(tensor.dtype == np.float32 for tensor in trained.tensors.values())


@pytest.mark.fault(37)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(bars: NDArray[np.uint8]) -> None:
    first, second, other = (fit(bars, dataclasses.replace(SETTINGS, seed=seed))[0].tensors for seed in (4, 4, 5))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert any(first[name].tobytes() != other[name].tobytes() for name in first)


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        dataclasses.replace(SETTINGS, likelihood="gaussian", corrupt=("mask:0.3",)),
        dataclasses.replace(SETTINGS, binarize=True),
    ],
)
@pytest.mark.parametrize("stopped_at", [0, 1, 3, 4, 7, 11, 12])
def test_from_any_step_it_goes_on_to_the_same_bits(bars: NDArray[np.uint8], settings: Settings, stopped_at: int) -> None:
    states: list[State] = []
    whole, _ = fit(bars, settings, keep=lambda run: states.append(run.state()))
    assert [state.step for state in states] == list(range(13))
    again, seen = fit(bars, settings, start=states[stopped_at])
    assert again.epochs == whole.epochs and again.sigma == whole.sigma
    assert all(again.tensors[name].tobytes() == whole.tensors[name].tobytes() for name in whole.tensors)
    assert all(progress.begun_at == stopped_at < progress.step for progress in seen)


@pytest.mark.fault(36)
def test_crops_go_on_to_the_same_bits() -> None:
    photographs = [np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8) for index in range(2)]
    network = networks.unet((8, 8, 3), [4, 8])
    settings = dataclasses.replace(
        SETTINGS, beta=0.0, corrupt=("gaussian:0.1",), likelihood="gaussian", batch_size=1024, epochs=2
    )
    states: list[State] = []

    def trained(start: State | None = None) -> training.Trained:
        stock = Crops(photographs, (8, 8, 3))
        return training.fit(network, stock, settings, "cpu", lambda progress: None, lambda run: states.append(run.state()), start)

    whole = trained()
    for stopped_at in (2, 4, 5):
        again = trained(states[stopped_at])
        assert all(again.tensors[name].tobytes() == whole.tensors[name].tobytes() for name in whole.tensors)


def test_a_state_that_is_no_number_is_not_kept(bars: NDArray[np.uint8]) -> None:
    def spoil(run: training.Run) -> None:
        run.weights.second[3] = np.inf
        run.state()

    with pytest.raises(VaectlError, match="no number any more at step 0"):
        fit(bars, SETTINGS, keep=spoil)


@pytest.mark.fault(40)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")])
def test_too_little_memory_is_told_with_what_helps(bars: NDArray[np.uint8], error: Exception) -> None:
    def fail(progress: Progress) -> None:
        raise error

    network = networks.mlp((8, 8, 1), 2, [32], variational=True)
    with pytest.raises(VaectlError, match=r"memory ran out: lower --batch-size \(it is 16\)"):
        training.fit(network, Whole(bars, "cpu"), SETTINGS, "cpu", fail)


def test_a_caller_s_own_random_numbers_are_left_alone(bars: NDArray[np.uint8]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(bars, SETTINGS)
    torch.testing.assert_close(torch.rand(3), expected)


def test_progress_tells_where_it_is(bars: NDArray[np.uint8]) -> None:
    _, seen = fit(bars, SETTINGS)
    ends = [progress for progress in seen if progress.ends_epoch]
    assert [(end.epoch, end.step, end.steps) for end in ends] == [(1, 4, 12), (2, 8, 12), (3, 12, 12)]
    assert seen[-1].loss == pytest.approx(seen[-1].reconstruction + seen[-1].kl)


def test_a_pull_towards_the_prior_lowers_the_kl(bars: NDArray[np.uint8]) -> None:
    weak, strong = (fit(bars, dataclasses.replace(SETTINGS, epochs=40, beta=beta))[0].epochs[-1]["kl"] for beta in (0.1, 10.0))
    assert strong < 0.5 * weak


def test_several_draws_of_z_a_picture_learn_too(bars: NDArray[np.uint8]) -> None:
    trained, _ = fit(bars, dataclasses.replace(SETTINGS, epochs=60, samples=4))
    assert trained.epochs[-1]["loss"] < 0.5 * trained.epochs[0]["loss"]


def test_a_gaussian_likelihood_learns_its_sigma_or_keeps_the_given_one(bars: NDArray[np.uint8]) -> None:
    learned, _ = fit(bars, dataclasses.replace(SETTINGS, epochs=100, likelihood="gaussian"))
    assert learned.sigma is not None and 0 < learned.sigma < 0.3
    given, _ = fit(bars, dataclasses.replace(SETTINGS, likelihood="gaussian", sigma=0.4))
    assert given.sigma == pytest.approx(0.4)
    assert fit(bars, SETTINGS)[0].sigma is None


def test_binarized_grey_is_seen_as_black_and_white() -> None:
    """A pixel of probability p costs its entropy at least; grey that is not binarized costs the same, binarized white none."""
    grey = np.full((64, 6, 6, 1), 26, np.uint8)
    trained, _ = fit(grey, dataclasses.replace(SETTINGS, epochs=30, binarize=True))
    share = 26 / 255
    entropy = -36 * (share * np.log(share) + (1 - share) * np.log(1 - share))
    assert trained.epochs[-1]["reconstruction"] == pytest.approx(entropy, rel=0.1)


@pytest.mark.fault(42)
def test_fewer_pictures_than_a_batch_are_one_batch() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), np.uint8)
    trained, seen = fit(pictures, models.settings("mlp", 3, beta=1.0, corrupt=(), epochs=5))
    assert seen[-1].steps == 5
    assert all(np.isfinite(tensor).all() for tensor in trained.tensors.values())


@pytest.mark.fault(42)
@pytest.mark.parametrize("value", [0, 255])
def test_constant_pictures_are_learned(value: int) -> None:
    trained, _ = fit(np.full((40, 6, 6, 3), value, np.uint8), SETTINGS)
    assert all(np.isfinite(tensor).all() for tensor in trained.tensors.values())


@pytest.mark.fault(39)
def test_a_loss_that_runs_away_is_told_with_its_step(bars: NDArray[np.uint8]) -> None:
    with pytest.raises(VaectlError, match=r"at step \d+: lower --lr \(it is 1e\+20\)"):
        fit(bars, dataclasses.replace(SETTINGS, epochs=20, lr=1e20))


def test_the_stand_in_has_the_gradient_of_the_loss() -> None:
    weights = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    clean = torch.rand(5, 4, dtype=torch.float64)
    noise = torch.randn(5, 6, dtype=torch.float64)
    logits, kl = noise @ weights, (weights**2).sum() * torch.ones(5, dtype=torch.float64)
    loss = (Bernoulli().nll(logits, clean) + 0.7 * kl).mean()
    (expected,) = torch.autograd.grad(loss, weights, retain_graph=True)
    training.descend(Bernoulli(), logits, clean, kl, 0.7)
    torch.testing.assert_close(weights.grad, expected)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    assert training.rate(0.025, 0.05) == pytest.approx(0.5)
    assert training.rate(0.05, 0.05) == pytest.approx(1)
    assert training.rate(1, 0.05) == 0


def test_a_state_of_other_weights_is_refused(bars: NDArray[np.uint8]) -> None:
    states: list[State] = []
    fit(bars, SETTINGS, keep=lambda run: states.append(run.state()))
    smaller = dataclasses.replace(states[0], tensors=states[0].tensors | {"weights": np.zeros(3, np.float32)})
    with pytest.raises(VaectlError, match="of a network of another size"):
        fit(bars, SETTINGS, start=smaller)
