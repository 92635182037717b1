import pytest
import torch

from vaectl import device
from vaectl.errors import VaectlError


def test_the_cpu_is_always_there() -> None:
    assert device.resolve("cpu") == "cpu"
    assert device.available()[-1] == "cpu"


def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.resolve("auto") == "cuda:0"
    assert device.resolve("cuda") == "cuda:0"
    assert device.resolve("cuda:1") == "cuda:1"
    with pytest.raises(VaectlError, match="cuda:0, cuda:1, cpu"):
        device.resolve("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "gpu", "", "cuda:0", "xpu"])
def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available", lambda: ["cpu"])
    with pytest.raises(VaectlError, match="choose auto or one of cpu"):
        device.resolve(name)
