"""A server of our own, with a certificate that the tests believe, in place of those that torchvision downloads from."""

import gzip
import hashlib
import io
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from support import contents, idx
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import extract_archive

from vaectl import datasets
from vaectl.errors import VaectlError

pytestmark = pytest.mark.fault(43)
PICTURES = np.random.default_rng(0).integers(0, 256, (9, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this user's downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaectl"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server that talks TLS alone, from which fashion-mnist comes, by an address that begins with http."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    site, key, certificate = tmp_path / "site", tmp_path / "key.pem", tmp_path / "certificate.pem"
    site.mkdir()
    made = f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate}"
    named = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(["openssl", *made.split(), *named.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("localhost", 0), partial(Silent, directory=str(site)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://localhost:{server.server_port}/"])
    resources = []
    for split, count in (("train", 9), ("t10k", 2)):
        for kind, array in (("images-idx3", PICTURES[:count]), ("labels-idx1", np.zeros(count, np.uint8))):
            data = gzip.compress(idx(array))
            (site / f"{split}-{kind}-ubyte.gz").write_bytes(data)
            resources.append((f"{split}-{kind}-ubyte.gz", hashlib.md5(data).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    yield site
    server.shutdown()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_data_set_is_downloaded_over_tls_and_then_taken_from_the_cache(served: Path, cache: Path) -> None:
    found = datasets.load("fashion-mnist")
    np.testing.assert_array_equal(found.train[..., 0], PICTURES)
    assert len(found.test) == 2
    for path in served.iterdir():
        path.unlink()
    assert datasets.load("fashion-mnist").sha256 == found.sha256
    assert os.listdir(cache) == ["fashion-mnist"]


@pytest.mark.parametrize("harm", ["changed", "short", "missing", "no archive"])
def test_a_download_with_wrong_bytes_is_refused_and_not_kept(harm: str, served: Path, cache: Path) -> None:
    path = served / "t10k-images-idx3-ubyte.gz"
    data = path.read_bytes()
    changed = {"changed": data[:-9] + b"x" + data[-8:], "short": data[:40], "no archive": b"hello"}
    path.unlink() if harm == "missing" else path.write_bytes(changed[harm])
    with pytest.raises(VaectlError, match=r"'fashion-mnist' was not downloaded: .*: put torchvision's files for it into '.*'"):
        datasets.load("fashion-mnist")
    assert os.listdir(cache) == []
    path.write_bytes(data)
    assert len(datasets.load("fashion-mnist").train) == 9


def test_a_server_whose_certificate_is_not_believed_is_not_listened_to(
    served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(VaectlError, match="was not downloaded"):
        datasets.load("fashion-mnist")
    assert os.listdir(cache) == []


def test_without_a_network_it_says_where_to_put_the_files(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(VaectlError, match=r"'kmnist' was not downloaded: .*: put torchvision's files for it into '.*kmnist'"):
        datasets.load("kmnist")
    assert os.listdir(cache) == []


def test_what_the_user_put_into_the_cache_stays(served: Path, cache: Path) -> None:
    own = cache / "fashion-mnist" / "FashionMNIST" / "raw"
    own.mkdir(parents=True)
    (own / "train-images-idx3-ubyte").write_bytes(idx(PICTURES))
    before = contents(cache)
    (served / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(VaectlError, match="was not downloaded"):
        datasets.load("fashion-mnist")
    assert contents(cache) == before


def test_what_the_user_put_into_the_cache_outlives_a_download_that_died_at_its_end(
    served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
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
        datasets.load("fashion-mnist")
    assert not own.exists()
    assert len(datasets.load("fashion-mnist").train) == len(PICTURES)
    assert own.read_text() == "mine"
    assert os.listdir(cache) == ["fashion-mnist"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/vaectl-outside", "inner/../../outside"])
def test_an_archive_whose_names_climb_writes_nothing_outside(name: str, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 3
        archive.addfile(member, io.BytesIO(b"bad"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as whole:
        whole.writestr(name, "bad")
    for path in ("a.tar", "a.zip"):
        try:
            extract_archive(str(tmp_path / path), str(tmp_path / "into"))
        except tarfile.FilterError:
            continue
    assert not (tmp_path / "outside").exists() and not Path("/tmp/vaectl-outside").exists()
