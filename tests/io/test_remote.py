"""URLs stand wherever files and folders may: on a server that speaks S3, and on one that loses connections."""

import os
import re
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Lock, Thread
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import Result, one_line, write_png

import vaectl
from vaectl.base.errors import VaectlError, VaectlWarning
from vaectl.images.resize import ResizeSpec
from vaectl.io import files, remote
from vaectl.io.decoders import ImageDecoder
from vaectl.io.inputs import read_samples
from vaectl.io.sources import Folder, SkipPolicy
from vaectl.models import checkpoint

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The variables with which s3://bucket is on a server of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import boto3

    client = boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"], aws_access_key_id="test",
                          aws_secret_access_key="test", region_name="us-east-1")  # fmt: skip
    for _ in range(100):
        try:
            client.create_bucket(Bucket="bucket")
            break
        except Exception:
            time.sleep(0.2)
    yield variables
    server.terminate()
    server.wait()


def test_every_command_reads_and_writes_urls(
    s3: dict[str, str], vae: Path, digits: NDArray[np.uint8], run: Call, tmp_path: Path
) -> None:
    np.save(tmp_path / "digits.npy", digits[:30])
    run("encode", "digits.npy", "-c", vae, "-o", "s3://bucket/z.npy", **s3)
    run("decode", "s3://bucket/z.npy", "-c", vae, "-o", "s3://bucket/images/", **s3)
    run("encode", "s3://bucket/images/", "-c", vae, "-o", "s3://bucket/again.csv", **s3)
    found = run("encode", "s3://bucket/images", "-c", vae, "--shard", "2/3", "--format", "csv", **s3).stdout
    assert [line.split(b",")[0] for line in found.splitlines()[1:]] == [f"z-{index:05d}.png".encode() for index in range(10, 20)]
    model = "s3://bucket/small.safetensors"
    training = ["train", "ae", "--data", "s3://bucket/images/", "--epochs", "1", "--hidden", "8", "-q", "-o", model]
    assert run(*training, **s3).stdout == f"{model}\n".encode()
    one_line(run(*training, code=1, **s3), f"'{model}' already exists: replace it with --force")
    run(*training, "--force", **s3)
    run("evaluate", "-c", model, "--samples", 0, "-q", **s3)
    run("grid", "-c", model, "-o", "s3://bucket/grid.png", "--steps", 3, **s3)
    assert run("info", model, **s3).stdout.startswith(b"model")
    assert not os.listdir(tmp_path) or os.listdir(tmp_path) == ["digits.npy"]


def test_tar_files_at_urls_are_learned_from(s3: dict[str, str], digits: NDArray[np.uint8], run: Call, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], aws_access_key_id="test",
                          aws_secret_access_key="test", region_name="us-east-1")  # fmt: skip
    for number in range(2):
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            for index in range(32 * number, 32 * number + 32):
                write_png(tmp_path / "x.png", digits[index, ..., 0])
                archive.add(tmp_path / "x.png", f"{index}.png")
        client.upload_file(str(tmp_path / "x.tar"), "bucket", f"{number}.tar")
    command = ["train", "vae", "--data", "s3://bucket/{0..1}.tar", "--hidden", "8", "--epochs", "2"]
    run(*command, **s3)
    card = checkpoint.load(str(tmp_path / "vae.safetensors")).card
    assert card.data["train"] + card.data["test"] == 64
    one_line(run(*command[:3], "s3://bucket/{0..2}.tar", *command[4:], "-f", code=1, **s3), "'s3://bucket/2.tar': no such file")


def test_an_output_appears_whole_or_not_at_all(s3: dict[str, str], vae: Path, run: Call, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run("encode", "a.png", "b.png", "-c", vae, "-o", "s3://bucket/half.npy", code=1, **s3)
    one_line(
        run("decode", "s3://bucket/half.npy", "-c", vae, "-o", "x.png", code=1, **s3), "no such file or folder: check the URL"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/no.png", "'s3://bucket/no.png': no such file or folder: check the URL"),
        ("s3://bucket/no/", "'s3://bucket/no/': no such file or folder"),
        ("s3://nobucket/no.png", "no such file or folder"),
        ("gs://bucket/x.png", "pip install gcsfs"),
        ("nope://bucket/x.png", "Protocol not known: nope: check the URL"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_in_a_line(url: str, words: str, s3: dict[str, str], vae: Path, run: Call) -> None:
    one_line(run("encode", url, "-c", vae, "-o", "z.npy", code=1, **s3), words)


def test_missing_credentials_are_told_in_a_line(s3: dict[str, str], vae: Path, run: Call, tmp_path: Path) -> None:
    nobody = s3 | {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    result = run("encode", "s3://bucket/z.npy", "-c", vae, "-o", "z.npy", code=1, **nobody)
    one_line(result, "Unable to locate credentials: give credentials as the provider's own tools take them")


def test_where_nothing_can_be_written_is_told_before_a_training(s3: dict[str, str], run: Call, tmp_path: Path) -> None:
    for url, words in (
        ("s3://nobucket/m.safetensors", "'s3://nobucket/m.safetensors': bucket 'nobucket' does not exist: check the URL"),
        ("http://127.0.0.1:1/m.safetensors", "cannot be written: http is read-only: give a file"),
    ):
        result = run("train", "ae", "--epochs", 1, "-o", url, code=1, **s3)
        one_line(result, words)
    one_line(run("train", "ae", "--resume", "-o", "s3://bucket/m.safetensors", code=2, **s3), "keeps no state to resume from")
    assert not os.listdir(tmp_path)


def test_a_checkpoint_that_cannot_be_uploaded_is_kept(small_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "put_file", fail)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(VaectlWarning, match="no state is saved"), pytest.raises(VaectlError) as caught:
        vaectl.train("vae", small_data, hidden=[8], epochs=1, output="memory://m.safetensors")
    (kept,) = os.listdir(tmp_path)
    assert kept.endswith("-m.safetensors") and f"the checkpoint is in {kept!r}" in str(caught.value)
    assert vaectl.load(kept).latent_dim == 10


def test_a_server_that_is_not_there_is_no_missing_file(vae: Path, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS", ())
    with (
        pytest.raises(VaectlError, match=r"^'http://127.0.0.1:1/x.png': .*: check the connection$"),
        files.open_reader("http://127.0.0.1:1/x.png"),
    ):
        pass


def test_without_fsspec_the_error_says_how_to_install_it(
    vae: Path, shell: Call, without: Callable[[str], dict[str, str]]
) -> None:
    result = shell(f"vaectl encode s3://bucket/x.png -c {vae} -o z.npy", **without("fsspec"))
    one_line(result, "pip install 'vaectl[remote]'")


def test_files_of_a_folder_are_opened_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = fsspec.filesystem("memory")
    for index in range(40):
        Image.new("L", (1, 1), index).save(stream := BytesIO(), "PNG")
        filesystem.pipe_file(f"/folder/{index:02}.png", stream.getvalue())
    waiting, most, lock = 0, 0, Lock()
    reopen = remote.RemoteStream.reopen

    def wait_and_reopen(stream: remote.RemoteStream) -> object:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        time.sleep(0.02)
        with lock:
            waiting -= 1
        return reopen(stream)

    monkeypatch.setattr(remote.RemoteStream, "reopen", wait_and_reopen)
    samples = read_samples([Folder("memory://folder")], ImageDecoder(ResizeSpec((1, 1, 1))), SkipPolicy())
    found = [(sample.name, round(sample.array.item() * 255)) for sample in samples]
    assert found == [(f"{index:02}.png", index) for index in range(40)]
    assert 4 < most <= 16


class LossyServer(BaseHTTPRequestHandler):
    """A server whose first answers break off in the middle."""

    data: ClassVar[bytes] = b""
    losses: ClassVar[int] = 0

    def do_HEAD(self) -> None:
        self.answer(200, len(self.data))

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1 if wanted and wanted[2] else len(self.data), len(self.data))
        body = self.data[start:stop]
        self.answer(206 if wanted else 200, len(body), f"bytes {start}-{stop - 1}/{len(self.data)}")
        if LossyServer.losses:
            LossyServer.losses -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(body)

    def answer(self, code: int, length: int, content_range: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if content_range and code == 206:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("losses", [1, 2, 100])
def test_a_lost_connection_is_tried_again_and_then_told(losses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))
    LossyServer.data, LossyServer.losses = np.random.default_rng(0).bytes(300_000), losses
    server = ThreadingHTTPServer(("127.0.0.1", 0), LossyServer)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/x.bin"
    try:
        with files.open_reader(url) as reader:
            if losses < 100:
                assert reader.read(1 << 20) == LossyServer.data
            else:
                with pytest.raises(VaectlError, match=r"^'http://127.0.0.1:\d+/x.bin': .*: check the connection$"):
                    reader.read(1 << 20)
    finally:
        server.shutdown()
