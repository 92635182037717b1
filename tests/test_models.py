from typing import Any

import pytest

from vaectl import models
from vaectl.models import Settings


def test_what_is_left_open_is_chosen_by_the_pictures() -> None:
    def chosen(pictures: int, **given: Any) -> Settings:
        return models.settings("mlp", pictures, beta=1.0, corrupt=(), **given)

    assert (chosen(60000).epochs, chosen(60000).batch_size) == (15, 256)
    assert chosen(60000).lr == pytest.approx(0.005, rel=0.02)
    assert chosen(60000, epochs=2).lr == pytest.approx(0.01)
    assert chosen(60000, epochs=2, lr=0.3).lr == 0.3
    assert chosen(60000, batch_size=64, epochs=1).lr < chosen(60000, epochs=1).lr
    assert chosen(60000, epochs=2, widest=6144).lr < 0.003
    few = chosen(100)
    assert few.batch_size == 100
    assert few.epochs * (100 // few.batch_size) >= 1000
