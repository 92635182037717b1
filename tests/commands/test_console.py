import json
from dataclasses import dataclass
from itertools import pairwise

import pytest

from vaectl.commands import console
from vaectl.training.plan import choose_config
from vaectl.training.progress import Progress
from vaectl.training.settings import Hyperparameters, Objective


@dataclass
class Clock:
    """A clock that is set by hand, in place of `perf_counter`."""

    seconds: float = 0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "perf_counter", clock)
    return clock


def progress_at(step: int, steps: int, *, ends_epoch: bool = False, beta: float = 1, objective: Objective = "elbo") -> Progress:
    wanted = Hyperparameters(epochs=1, batch_size=10, beta=beta, corrupt=(), objective=objective)
    config = choose_config(wanted, "mlp", 1000, 784)
    return Progress(step, steps, 0, 1, ends_epoch, config, 2 + beta, 2, 1, {}, seconds=5)


def test_off_a_terminal_a_long_epoch_prints_a_line_at_least_once_a_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    printed_at = [0.0]
    with console.TrainingDisplay(quiet=False, as_json=False) as display:
        for step in range(1, 1001):
            clock.seconds = step
            display.on_progress(progress_at(step, 1000, ends_epoch=step == 1000))
            printed_at += [clock.seconds] * capsys.readouterr().err.count("\n")
    gaps = [later - earlier for earlier, later in pairwise(printed_at)]
    assert printed_at[-1] == 1000
    assert max(gaps) <= 60
    assert len(gaps) < 20


def test_off_a_terminal_slow_reading_prints_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.TrainingDisplay(quiet=False, as_json=False) as display:
        for done in range(1, 131):
            clock.seconds = done
            display.on_read(done, 130)
    assert capsys.readouterr().err == "reading: 60 of 130 images\nreading: 120 of 130 images\n"


def test_a_line_holds_the_loss_the_speed_and_the_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.TrainingDisplay(quiet=False, as_json=False) as display:
        clock.seconds = 5
        display.on_progress(progress_at(50, 100, ends_epoch=True))
        display.on_progress(progress_at(50, 100, ends_epoch=True, beta=4))
        display.on_progress(progress_at(50, 100, ends_epoch=True, objective="iwae"))
    one, four, iwae = capsys.readouterr().err.splitlines()
    assert one == "epoch 1/1: loss 3.00 = 2.00 + 1.00 KL nats, 100 images/s, 5 s left"
    assert "loss 6.00 = 2.00 + 4 x 1.00 KL nats" in four
    assert "loss 3.00 nats" in iwae


def test_quiet_prints_nothing_and_json_goes_to_stdout(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    with console.TrainingDisplay(quiet=True, as_json=True) as display:
        clock.seconds = 100
        display.on_read(1, None)
        display.on_progress(progress_at(50, 100))
        display.on_progress(progress_at(100, 100, ends_epoch=True))
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == {"epoch": 1, "loss": 3, "reconstruction": 2, "kl": 1}
