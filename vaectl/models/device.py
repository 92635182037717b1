"""Resolves device names: auto, cpu, cuda, cuda:1, mps or xpu."""

from vaectl.base.errors import VaectlError
from vaectl.base.processes import local_rank


def available_devices() -> list[str]:
    """The devices of this machine, fastest first; the CPU comes last."""
    import torch

    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    return [*(f"{kind}:{index}" for kind, count in counts.items() for index in range(count)), "cpu"]


def resolve_device(name: str) -> str:
    """The torch device for a name; auto is the fastest. Each process on a machine with several GPUs gets its own.

    Raises:
        VaectlError: this machine has no such device; the message lists its devices.
    """
    devices = available_devices()
    name = devices[0].partition(":")[0] if name == "auto" else name
    found = [device for device in devices if name in (device, device.partition(":")[0])]
    if found:
        return found[local_rank() % len(found)]
    raise VaectlError(
        f"no device {name!r} on this machine", f"choose auto or one of {', '.join(devices)}; GPUs are called cuda, mps and xpu"
    )
