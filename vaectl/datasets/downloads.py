"""Data sets that torchvision downloads: over TLS only, verified, and kept whole or not at all."""

import os
import shutil
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vaectl.base.errors import VaectlError
from vaectl.datasets.cache import cache_folder
from vaectl.datasets.catalogue import DOWNLOADABLE, SPLITS, TorchvisionDataset
from vaectl.io import locks

TORCHVISION_ERRORS = (OSError, RuntimeError, ImportError, ValueError, EOFError, tarfile.TarError)


def load_splits(name: str) -> dict[str, Any]:
    """Both splits of a data set, from this user's cache, downloaded if they are not there.

    Raises:
        VaectlError: it is neither there nor can be downloaded.
    """
    dataset = DOWNLOADABLE[name]
    folder = os.path.join(cache_folder(), name)
    try:
        return open_splits(dataset, folder, download=False)
    except TORCHVISION_ERRORS:  # missing or incomplete
        pass
    with locks.exclusive_lock(folder, "download"):
        fresh, aside = f"{folder}.part", f"{folder}.old"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if os.path.isdir(folder):
                shutil.rmtree(aside, ignore_errors=True)
            elif os.path.isdir(aside):  # an earlier download died between the two renames below
                os.replace(aside, folder)
            if os.path.isdir(folder):
                shutil.copytree(folder, fresh)
            with safe_downloads():
                open_splits(dataset, fresh, download=True)
            if os.path.isdir(folder):
                os.replace(folder, aside)
            os.replace(fresh, folder)
            shutil.rmtree(aside, ignore_errors=True)
            return open_splits(dataset, folder, download=False)
        except TORCHVISION_ERRORS as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise VaectlError(f"could not download {name!r}: {reason}: put torchvision's files for it into {folder!r}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def open_splits(dataset: TorchvisionDataset, folder: str, *, download: bool) -> dict[str, Any]:
    """Both splits of a data set stored in `folder`."""
    from torchvision import datasets

    build = getattr(datasets, dataset.class_name)
    return {split: build(folder, download=download, **getattr(dataset, split)) for split in SPLITS}


class ForceTLS(urllib.request.HTTPHandler):
    """Requests https for every http address: some addresses are that old, and torchvision falls back to http."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        request.full_url = request.full_url.replace("http:", "https:", 1)
        return self.do_request_(request)


@contextmanager
def safe_downloads() -> Iterator[None]:
    """Within the block, urllib downloads nothing without TLS, and no tar file writes outside its folder."""
    urllib.request.install_opener(urllib.request.build_opener(ForceTLS))
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # the default from Python 3.14 on
    try:
        yield
    finally:
        urllib.request.install_opener(None)
        tarfile.TarFile.extraction_filter = None
