"""Where the arithmetic runs: "auto", "cpu", "cuda", "cuda:1", "mps" or "xpu" becomes a device that is there."""

from vaectl.errors import VaectlError


def available() -> list[str]:
    """The devices of this machine, the fastest first; the CPU is always there."""
    import torch

    accelerators = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    numbered = {name: [f"{name}:{index}" for index in range(count)] for name, count in accelerators.items()}
    return [*(device for devices in numbered.values() for device in devices), "cpu"]


def resolve(name: str) -> str:
    """The device that `name` stands for, as torch calls it; "auto" is the fastest there is.

    Raises:
        VaectlError: no such device on this machine; the message lists those that are.
    """
    devices = available()
    if name == "auto":
        return devices[0]
    for device in devices:
        if name in (device, device.partition(":")[0]):
            return device
    raise VaectlError(f"there is no device {name!r} here: choose auto or one of {', '.join(devices)}")
