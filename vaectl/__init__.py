"""Autoencoders in the shell, and the same in Python: `model = vaectl.load("vae.safetensors")`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaectl.autoencoder import Autoencoder, load
    from vaectl.errors import VaectlError

__version__ = "0.1.0"
__all__ = ["Autoencoder", "VaectlError", "load"]


def __getattr__(name: str) -> Any:
    """Import the Python door on first use, so that `vaectl --help` never pays for NumPy."""
    if name == "VaectlError":
        from vaectl.errors import VaectlError

        return VaectlError
    if name in __all__:
        from vaectl import autoencoder

        return getattr(autoencoder, name)
    raise AttributeError(f"module 'vaectl' has no attribute {name!r}")
