"""Autoencoders in the shell and in Python.

model = vaectl.train("vae", "mnist", latent_dim=2)
model = vaectl.load("vae.safetensors")
z = model.encode("mnist:test")
vaectl.evaluate(model).metrics["neg_elbo"]
"""

import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from vaectl.base.errors import VaectlError, VaectlWarning
    from vaectl.evaluation.evaluate import Evaluation, evaluate
    from vaectl.models.autoencoder import Autoencoder, load
    from vaectl.training.progress import Progress
    from vaectl.training.run import train
    from vaectl.web.explorer import explore

__version__ = "0.2.0"
__all__ = ["Autoencoder", "Evaluation", "Progress", "VaectlError", "VaectlWarning", "evaluate", "explore", "load", "train"]

# Imported on first use, so that `vaectl --help` pays for neither NumPy nor torch.
_MODULES = {
    "Autoencoder": "vaectl.models.autoencoder",
    "Evaluation": "vaectl.evaluation.evaluate",
    "Progress": "vaectl.training.progress",
    "VaectlError": "vaectl.base.errors",
    "VaectlWarning": "vaectl.base.errors",
    "evaluate": "vaectl.evaluation.evaluate",
    "explore": "vaectl.web.explorer",
    "load": "vaectl.models.autoencoder",
    "train": "vaectl.training.run",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(_import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'vaectl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
