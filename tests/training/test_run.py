import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import Result

import vaectl
from vaectl import Autoencoder, Progress, VaectlError, VaectlWarning
from vaectl.base.errors import UsageError
from vaectl.models.checkpoint import card_to_json

Call = Callable[..., Result]


def as_json(model: Autoencoder) -> str:
    return json.dumps(card_to_json(model.card), sort_keys=True)


def test_training_on_an_array_returns_a_model_and_reports_its_progress(digits: NDArray[np.uint8]) -> None:
    read: list[tuple[int, int | None]] = []
    progress: list[Progress] = []
    ended: list[tuple[Autoencoder, int]] = []
    model = vaectl.train(
        "vae",
        digits,
        latent_dim=3,
        hidden=[16],
        epochs=2,
        on_read=lambda done, total: read.append((done, total)),
        on_progress=progress.append,
        on_end=lambda model, images: ended.append((model, len(images))),
    )
    assert isinstance(model, Autoencoder)
    assert (model.card.model, model.image_shape, model.latent_dim) == ("vae", (28, 28, 1), 3)
    assert model.encode(digits).shape == (64, 3)
    assert read[0] == (1, 64) and read[-1] == (64, 64)
    assert progress[-1].step == progress[-1].steps and progress[-1].epoch == 2
    assert ended == [(model, model.card.metrics["images"])]
    assert model.card.data["name"] == "array"


def test_training_on_a_tuple_evaluates_on_its_second_part(digits: NDArray[np.uint8]) -> None:
    model = vaectl.train("ae", (digits[:50] / 255, digits[50:] / 255), latent_dim=2, hidden=[8], epochs=1)
    assert (model.card.metrics["split"], model.card.metrics["images"]) == ("test", 14)
    assert (model.card.data["train"], model.card.data["test"]) == (50, 14)


def test_training_on_a_folder_uses_the_paths_below_it(digits_folder: Path) -> None:
    model = vaectl.train("ae", digits_folder, latent_dim=2, hidden=[8], epochs=1, size=(14, 10), fit="pad")
    assert model.image_shape == (14, 10, 1)
    assert model.card.data["train"] + model.card.data["test"] == 12
    assert model.encode(digits_folder).shape == (12, 2)


def test_training_on_part_of_a_data_set_by_name(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    with pytest.warns(VaectlWarning, match="too few images to hold any out"):
        model = vaectl.train("ae", "mnist:3", latent_dim=1, hidden=[4], epochs=1, output=path)
    assert model.card.data["name"] == "mnist:3"
    assert as_json(vaectl.load(path)) == as_json(model)
    assert list(tmp_path.iterdir()) == [path]


def test_the_arguments_of_train_reach_the_card(digits: NDArray[np.uint8]) -> None:
    model = vaectl.train(
        "dae",
        np.repeat(digits, 3, axis=3),
        net="conv",
        latent_dim=5,
        hidden=[4, 8],
        channels=1,
        fit="stretch",
        epochs=1,
        batch_size=8,
        lr=0.001,
        beta=0.5,
        corrupt=["mask:0.2", "gaussian:0.1"],
        samples=2,
        likelihood="gaussian",
        sigma=0.3,
        precision="fp32",
        seed=7,
        device="cpu",
    )
    card = model.card
    assert (card.fit, card.likelihood, card.beta) == ("stretch", "gaussian", 0.5)
    assert card.sigma == pytest.approx(0.3)
    assert list(card.corrupt) == ["mask:0.2", "gaussian:0.1"]
    expected = {"epochs": 1, "batch_size": 8, "lr": 0.001, "samples": 2, "precision": "fp32", "seed": 7}
    assert card.training.items() >= expected.items()
    assert model.image_shape == (28, 28, 1) and model.network.variational


def test_training_a_unet_learns_from_crops(digits: NDArray[np.uint8]) -> None:
    model = vaectl.train(
        "dae", digits[:20], net="unet", hidden=[2, 4], size=(8, 8), corrupt=["gaussian:0.1"], epochs=1, batch_size=512
    )
    assert (model.image_shape, model.latent_dim) == ((8, 8, 1), 0)
    assert model.denoise(digits[0]).shape == (1, 28, 28, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"net": "unet", "latent_dim": 3}, "a unet has no latent"),
        ({"sigma": 0.1}, "sigma is for a Gaussian likelihood"),
        ({"net": "unet", "corrupt": ["gaussian:0.1"], "size": (9, 9)}, "these sizes do not make a network"),
        ({"net": "resnet"}, "net='resnet': choose one of mlp, conv, unet"),
        ({"fit": "fill"}, "fit='fill': choose one of crop, pad, stretch"),
        ({"likelihood": "normal"}, "choose one of bernoulli, gaussian"),
        ({"precision": "fp16"}, "choose one of auto, fp32, bf16"),
        ({"hidden": [8, 0]}, r"hidden=\[8, 0\]: give an integer above 0"),
        ({"latent_dim": -1}, "latent_dim=-1: give an integer above 0"),
        ({"epochs": 0}, "epochs=0: give an integer above 0"),
        ({"sigma": 1e300, "likelihood": "gaussian"}, "sigma=1e\\+300: give a finite number above 0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"corrupt": ["fog:1"]}, "not a corruption"),
        ({"resume": True}, "without an output, no state is saved"),
    ],
)
def test_invalid_and_contradictory_arguments_are_usage_errors(
    digits: NDArray[np.uint8], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        vaectl.train("ae", digits, **{"epochs": 1, **options})


def test_train_does_not_replace_a_checkpoint_unless_forced(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    options: dict[str, Any] = {"latent_dim": 2, "hidden": [8], "epochs": 1, "output": path}
    first = vaectl.train("ae", digits, **options)
    with pytest.raises(VaectlError, match="already exists: replace it with --force"):
        vaectl.train("ae", digits, **options)
    second = vaectl.train("ae", digits, **options, force=True, seed=5)
    assert as_json(vaectl.load(path)) == as_json(second) != as_json(first)


def test_an_interrupted_run_resumes_in_python(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    options: dict[str, Any] = {"latent_dim": 2, "hidden": [8], "epochs": 20, "output": path}
    whole = vaectl.train("ae", digits, **(options | {"output": None}))

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(VaectlWarning, match=r"resume with vaectl.train\(\.\.\., resume=True\)"):
        vaectl.train("ae", digits, **options, on_progress=interrupt)
    with pytest.raises(VaectlError, match="is an interrupted run"):
        vaectl.train("ae", digits, **options)
    resumed = vaectl.train("ae", digits, **options, resume=True)
    for name, weight in whole.checkpoint.weights.items():
        np.testing.assert_array_equal(resumed.checkpoint.weights[name], weight)


def test_a_resumed_run_moves_images_as_it_began_to(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    """What moves them by default may change from one version to the next."""
    options: dict[str, Any] = {"latent_dim": 2, "hidden": [8], "epochs": 4, "output": tmp_path / "ae.safetensors"}

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(VaectlWarning, match="stopped after 0 of 4 steps"):
        vaectl.train("ae", digits, **options, shift=3, on_progress=interrupt)
    assert vaectl.train("ae", digits, **options, resume=True).card.training["shift"] == 3


def test_python_and_the_command_train_the_same_weights(run: Call, small_data: Path, tmp_path: Path) -> None:
    run("train", "vae", "--data", small_data, "--latent", 2, "--hidden", "16", "--epochs", 1, "--seed", 4, "-q")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        vaectl.train("vae", small_data, latent_dim=2, hidden=[16], epochs=1, seed=4, output=tmp_path / "python.safetensors")
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "python.safetensors").read_bytes() == (tmp_path / "vae.safetensors").read_bytes()


def test_an_unknown_model_is_a_usage_error(digits: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="model='gan': choose one of ae, dae, vae"):
        vaectl.train("gan", digits)  # type: ignore[arg-type] - what a typed caller cannot do


def test_one_corruption_and_one_side_need_no_sequence(digits: NDArray[np.uint8]) -> None:
    card = vaectl.train("dae", digits, size=8, corrupt="mask:0.3", latent_dim=2, hidden=[8], epochs=1).card
    assert card.network.image_shape == (8, 8, 1) and card.corrupt == ["mask:0.3"]


def test_training_goes_on_from_a_checkpoint_on_other_data(digits: NDArray[np.uint8], small_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "first.safetensors"
    first = vaectl.train("vae", small_data, latent_dim=3, hidden=[24], epochs=5, output=path)
    with np.load(small_data) as arrays:
        others = arrays["x_test"]
    scratch = vaectl.train("vae", others, latent_dim=3, hidden=[24], epochs=1)
    tuned = vaectl.train("vae", others, init_from=path, net="mlp", channels=1, epochs=1)
    assert tuned.card.network == first.card.network
    assert tuned.card.metrics["neg_elbo"] < scratch.card.metrics["neg_elbo"] - 10
    for other in ({"latent_dim": 4}, {"net": "conv"}, {"channels": 3}, {"hidden": [24]}, {"size": 28}):
        with pytest.raises(UsageError, match="--from uses the network of its FILE"):
            vaectl.train("vae", digits, init_from=path, **other)
    with pytest.raises(UsageError, match="is a vae, whose encoder has other outputs: train vae --from"):
        vaectl.train("ae", digits, init_from=path)


def test_the_importance_weighted_bound_is_learned_and_needs_a_kl(digits: NDArray[np.uint8], small_data: Path) -> None:
    epochs = vaectl.train("vae", small_data, latent_dim=3, hidden=[24], epochs=4, samples=5, objective="iwae").card.epochs
    assert epochs[-1]["loss"] < epochs[0]["loss"] - 5
    with pytest.raises(UsageError, match="are for models with a KL"):
        vaectl.train("ae", digits, objective="iwae", samples=5)
    with pytest.raises(UsageError, match="iwae needs several samples: add --samples"):
        vaectl.train("vae", digits, objective="iwae")
    with pytest.raises(UsageError, match="objective='elbow': choose one of elbo, iwae"):
        vaectl.train("vae", digits, objective="elbow")


def test_what_held_out_images_say_is_best_is_kept(run: Call, small_data: Path, tmp_path: Path) -> None:
    with np.load(small_data) as arrays:
        np.savez(tmp_path / "few.npz", x_train=arrays["x_train"][:60], x_test=arrays["x_test"])
    sizes = ("--latent", 4, "--hidden", 60, "--epochs", 150, "--lr", 0.01, "--shift", 0)
    result = run("train", "vae", "--data", "few.npz", *sizes)
    card = vaectl.load(tmp_path / "vae.safetensors").card
    losses = [epoch["held_out_loss"] for epoch in card.epochs]
    kept = card.metrics["epoch"]
    assert kept == 1 + int(np.argmin(losses)) < 150
    assert card.metrics["neg_elbo"] == pytest.approx(losses[kept - 1], rel=1e-5) and losses[kept - 1] < losses[-1] - 5
    line = f"kept epoch {kept} of 150, the best on held-out images: {losses[kept - 1]:.2f} nats, {losses[-1]:.2f} "
    assert line in result.stderr.decode()


def test_the_last_epoch_is_kept_in_silence_if_it_is_best(run: Call, small_data: Path, tmp_path: Path) -> None:
    result = run("train", "vae", "--data", small_data, "--hidden", 16, "--epochs", 2)
    assert vaectl.load(tmp_path / "vae.safetensors").card.metrics["epoch"] == 2
    assert "kept" not in result.stderr.decode()


def test_without_held_out_images_the_last_epoch_is_kept(digits: NDArray[np.uint8]) -> None:
    with pytest.warns(VaectlWarning, match="too few images to hold any out"):
        card = vaectl.train("vae", "mnist:3", hidden=[4], epochs=5).card
    assert card.metrics["epoch"] == 5 and not any(name.startswith("held_out") for name in card.epochs[-1])


def test_the_held_out_loss_is_what_training_minimizes(small_data: Path) -> None:
    *_, last = vaectl.train("vae", small_data, latent_dim=3, hidden=[24], epochs=3, beta=0.1, shift=0).card.epochs
    assert last["held_out_loss"] == pytest.approx(last["loss"], rel=0.05)
    assert last["held_out_neg_elbo"] > last["held_out_loss"] + 5
    *_, last = vaectl.train("vae", small_data, latent_dim=3, hidden=[24], epochs=3, objective="iwae", samples=20).card.epochs
    assert last["held_out_loss"] < last["held_out_neg_elbo"] - 0.5


def test_few_images_are_moved_so_that_they_are_not_learned_by_heart(small_data: Path) -> None:
    with np.load(small_data) as arrays:
        data = (arrays["x_train"][:200], arrays["x_test"])
    still, moved = (vaectl.train("vae", data, hidden=[100], epochs=100, shift=shift).card for shift in (0, None))
    assert (still.training["shift"], moved.training["shift"]) == (0, 1)
    assert moved.metrics["neg_elbo"] < still.metrics["neg_elbo"] - 5
    with pytest.raises(UsageError, match="shift=-1: give an integer that is not negative"):
        vaectl.train("vae", data, shift=-1)


def test_a_learned_sigma_is_the_error_on_held_out_images(digits: NDArray[np.uint8], small_data: Path) -> None:
    with np.load(small_data) as arrays:
        data = (arrays["x_train"][:100], arrays["x_test"])
    options: dict[str, Any] = {"hidden": [100], "likelihood": "gaussian", "shift": 0}
    model = vaectl.train("ae", data, **options, epochs=60)
    assert model.card.sigma == pytest.approx(model.card.metrics["mse"] ** 0.5, rel=1e-4)
    assert model.card.sigma > 1.5 * np.sqrt(vaectl.evaluate(model, data, split="train").metrics["mse"])
    assert vaectl.train("ae", data, **options, epochs=1, sigma=0.2).card.sigma == pytest.approx(0.2)


def test_a_network_that_knows_its_images_by_heart_is_told_of(small_data: Path) -> None:
    with np.load(small_data) as arrays:
        images = arrays["x_train"]
    with pytest.warns(
        VaectlWarning,
        match=r"the model has memorized its images: it reconstructs images it learned from at .* dB, held-out ones at",
    ):
        vaectl.train("ae", (images[:30], images[1000:1100]), hidden=[200], epochs=80, batch_size=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", VaectlWarning)
        vaectl.train("vae", small_data, latent_dim=2, hidden=[16], epochs=2)
