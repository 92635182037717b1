import pytest
import torch

from vaectl.base.errors import VaectlError
from vaectl.models import device
from vaectl.models.device import available_devices, resolve_device


def test_the_cpu_is_always_available_and_comes_last() -> None:
    assert resolve_device("cpu") == "cpu"
    assert available_devices()[-1] == "cpu"


def test_auto_is_the_fastest_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda:0"
    assert resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(VaectlError, match=r"cuda:0, cuda:1, .*cpu"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "gpu", "", "cuda:0", "xpu"])
def test_a_missing_device_is_an_error_that_lists_the_available_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu"])
    with pytest.raises(VaectlError, match="choose auto or one of cpu"):
        resolve_device(name)
