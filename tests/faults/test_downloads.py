"""Downloads from a local server, with a certificate that the tests trust, in place of torchvision's mirrors."""

import gzip
import hashlib
import io
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from support import contents, to_idx
from torchvision.datasets import CIFAR10, FashionMNIST

from vaectl.base.errors import VaectlError
from vaectl.datasets.load import load_dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this user's downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaectl"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a server serves over TLS only, with the files of fashion-mnist; its address begins with http."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    site, key, certificate = tmp_path / "site", tmp_path / "key.pem", tmp_path / "certificate.pem"
    site.mkdir()
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate}"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(["openssl", *request.split(), *names.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("localhost", 0), partial(SilentHandler, directory=str(site)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://localhost:{server.server_port}/"])
    resources = []
    for split, count in (("train", 9), ("t10k", 2)):
        for kind, array in (("images-idx3", IMAGES[:count]), ("labels-idx1", np.zeros(count, np.uint8))):
            data = gzip.compress(to_idx(array))
            (site / f"{split}-{kind}-ubyte.gz").write_bytes(data)
            resources.append((f"{split}-{kind}-ubyte.gz", hashlib.md5(data).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    yield site
    server.shutdown()
    server.server_close()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_data_set_is_downloaded_over_tls_and_then_read_from_the_cache(site: Path, cache: Path) -> None:
    found = load_dataset("fashion-mnist")
    np.testing.assert_array_equal(np.asarray(found.train)[..., 0], IMAGES)
    assert len(found.test) == 2
    for path in site.iterdir():
        path.unlink()
    assert load_dataset("fashion-mnist").sha256 == found.sha256
    assert os.listdir(cache) == ["fashion-mnist"]


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing", "not an archive"])
def test_a_damaged_download_is_refused_and_not_kept(damage: str, site: Path, cache: Path) -> None:
    path = site / "t10k-images-idx3-ubyte.gz"
    data = path.read_bytes()
    damaged = {"changed": data[:-9] + b"x" + data[-8:], "truncated": data[:40], "not an archive": b"hello"}
    path.unlink() if damage == "missing" else path.write_bytes(damaged[damage])
    with pytest.raises(VaectlError, match=r"^could not download 'fashion-mnist': .*: put torchvision's files for it into '.*'$"):
        load_dataset("fashion-mnist")
    assert os.listdir(cache) == []
    path.write_bytes(data)
    assert len(load_dataset("fashion-mnist").train) == 9


def test_a_server_with_an_untrusted_certificate_is_refused(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(VaectlError, match="could not download"):
        load_dataset("fashion-mnist")
    assert os.listdir(cache) == []


def test_without_a_network_the_error_says_where_to_put_the_files(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(VaectlError, match=r"^could not download 'kmnist': .*: put torchvision's files for it into '.*kmnist'$"):
        load_dataset("kmnist")
    assert os.listdir(cache) == []


def test_files_the_user_put_into_the_cache_survive_a_failed_download(site: Path, cache: Path) -> None:
    raw = cache / "fashion-mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(to_idx(IMAGES))
    before = contents(cache)
    (site / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(VaectlError, match="could not download"):
        load_dataset("fashion-mnist")
    assert contents(cache) == before


def test_files_the_user_put_into_the_cache_survive_a_download_killed_between_its_renames(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = cache / "fashion-mnist" / "own.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    replace = os.replace

    def die(source: str, target: str) -> None:
        if source.endswith(".part"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("os.replace", die)
        load_dataset("fashion-mnist")
    assert not own.exists()
    assert len(load_dataset("fashion-mnist").train) == len(IMAGES)
    assert own.read_text() == "mine"
    assert os.listdir(cache) == ["fashion-mnist"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/vaectl-outside", "inner/../../outside"])
def test_an_archive_cannot_write_outside_its_folder(
    name: str, site: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = site / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    monkeypatch.setattr(CIFAR10, "url", FashionMNIST.mirrors[0] + archive.name)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(VaectlError, match="could not download 'cifar10'"):
        load_dataset("cifar10")
    assert not [*tmp_path.rglob("*outside")] and not Path("/tmp/vaectl-outside").exists()
