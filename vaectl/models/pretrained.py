"""The ready-made models that come with the package, by name."""

import os
from difflib import get_close_matches
from importlib import resources

from vaectl.base.errors import VaectlError

# What each is for; data/CREDITS-<name>.md says how, from what and by whom it was made.
PRETRAINED = {"photo": "denoises photographs of any size: noise of any strength up to 55 of 255, and JPEG"}


def find_pretrained(path: str) -> str:
    """The path of a ready-made model if `path` is its name and no file's, else `path`.

    Raises:
        VaectlError: neither a file nor the name of a model.
    """
    if path in PRETRAINED and not os.path.exists(path):
        return str(resources.files("vaectl") / "data" / f"{path}.safetensors")
    if path and not os.path.lexists(path) and not os.path.splitext(path)[1] and os.sep not in path:
        guesses = get_close_matches(path.lower(), PRETRAINED, 1)
        advice = f"did you mean {guesses[0]}?" if guesses else f"name a file, or a ready-made model ({', '.join(PRETRAINED)})"
        raise VaectlError(f"there is no checkpoint {path!r}", advice)
    return path
