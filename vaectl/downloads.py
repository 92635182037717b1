"""Data sets that torchvision downloads: over TLS alone, checked, and kept whole or not at all."""

import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vaectl.catalogue import DOWNLOADED, Named
from vaectl.errors import VaectlError
from vaectl.io import locks, shelf

FAILURES = (OSError, RuntimeError, ImportError, ValueError, EOFError)  # what torchvision raises


def splits(name: str) -> list[Any]:
    """Both splits of a data set, from this user's cache, or downloaded into it.

    Raises:
        VaectlError: it is not there, and could not be downloaded.
    """
    named = DOWNLOADED[name]
    folder = os.path.join(shelf.cache_folder(), name)
    try:
        return opened(named, folder, download=False)
    except FAILURES:  # it is not there, or not all of it
        pass
    with locks.alone(folder, "download"):
        fresh, aside = f"{folder}.part", f"{folder}.old"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if os.path.isdir(folder):
                shutil.rmtree(aside, ignore_errors=True)
            elif os.path.isdir(aside):  # an earlier download died while they changed places
                os.replace(aside, folder)
            if os.path.isdir(folder):
                shutil.copytree(folder, fresh)
            with only_tls():
                opened(named, fresh, download=True)
            if os.path.isdir(folder):
                os.replace(folder, aside)
            os.replace(fresh, folder)
            shutil.rmtree(aside, ignore_errors=True)
            return opened(named, folder, download=False)
        except FAILURES as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise VaectlError(f"{name!r} was not downloaded: {reason}: put torchvision's files for it into {folder!r}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def opened(named: Named, folder: str, *, download: bool) -> list[Any]:
    """Both splits of a data set that lies in `folder`."""
    from torchvision import datasets

    kind = getattr(datasets, named.kind)
    return [kind(folder, download=download, **options) for options in (named.train, named.test)]


class OnlyTLS(urllib.request.HTTPHandler):
    """Asks by https for what is to be had by http: some addresses are so old, and torchvision tries http where https fails."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        request.full_url = request.full_url.replace("http:", "https:", 1)
        return self.do_request_(request)


@contextmanager
def only_tls() -> Iterator[None]:
    """Within, urllib downloads nothing without TLS."""
    urllib.request.install_opener(urllib.request.build_opener(OnlyTLS))
    try:
        yield
    finally:
        urllib.request.install_opener(None)
