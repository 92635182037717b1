"""Each setting is declared once: the shell, Python, checks, the card and resumed runs follow from it."""

import inspect
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

import vaectl
from vaectl import cli
from vaectl.base.errors import UsageError
from vaectl.training.loop import get_lr
from vaectl.training.settings import Hyperparameters, TrainConfig, TrainSettings, find_settings


def test_every_setting_with_a_flag_is_an_option_of_the_command() -> None:
    options = {flag for option in cli.load_command("train").params for flag in (*option.opts, *option.secondary_opts)}
    for _, setting in find_settings(TrainSettings):
        for flag in (part for flags in setting.flags if flags.startswith("-") for part in flags.split("/")):
            assert flag in options


def test_train_has_the_signature_and_the_help_of_its_settings() -> None:
    assert list(inspect.signature(vaectl.train).parameters) == [found.name for found in fields(TrainSettings)]
    assert "latent_dim: Latent dimension" in (vaectl.train.__doc__ or "")
    with pytest.raises(TypeError, match="latent_dims"):
        vaectl.train("vae", latent_dims=2)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0.0}, "lr=0.0: give a finite number above 0"),
        ({"beta": -1}, "beta=-1: give a finite number that is not negative"),
        ({"samples": 10**7}, "samples=10000000"),
        ({"channels": 2}, "channels=2: choose one of 1, 3"),
        ({"schedule": "step"}, "schedule='step': choose one of linear, cosine"),
    ],
)
def test_a_value_out_of_bounds_is_refused_in_python_too(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainSettings("vae", **wrong)  # type: ignore[arg-type]


def test_settings_are_read_without_numpy_and_torch() -> None:
    code = "import sys, vaectl.training.settings; sys.exit(bool({'numpy', 'torch'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_card_has_all_hyperparameters(digits: NDArray[np.uint8]) -> None:
    card = vaectl.train("ae", digits, latent_dim=2, hidden=[8], epochs=1, schedule="cosine").card
    elsewhere = {"beta", "corrupt", "likelihood"}
    assert card.training.keys() >= {found.name for found in fields(Hyperparameters)} - elsewhere
    assert card.training["schedule"] == "cosine"


def test_the_learning_rate_falls_to_0_along_a_line_or_a_cosine() -> None:
    linear, cosine = (
        TrainConfig(epochs=1, batch_size=1, lr=2.0, beta=0.0, corrupt=(), warmup=0.2, schedule=schedule)
        for schedule in ("linear", "cosine")
    )
    for config in (linear, cosine):
        assert get_lr(config, 0.1) == pytest.approx(1)
        assert get_lr(config, 0.2) == pytest.approx(2)
        assert get_lr(config, 0.6) == pytest.approx(1)
        assert get_lr(config, 1) == pytest.approx(0)
    assert get_lr(cosine, 0.4) == pytest.approx(1 + 0.5**0.5)
    assert get_lr(cosine, 0.4) > get_lr(linear, 0.4)


@pytest.mark.parametrize(
    "wrong", [{"latent_dim": 2.5}, {"epochs": True}, {"epochs": "1"}, {"hidden": 5}, {"size": "x"}, {"fit": None}]
)
def test_a_value_of_another_type_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
        TrainSettings("vae", **wrong)  # type: ignore[arg-type]
