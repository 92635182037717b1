"""--ray on a real cluster of this machine: no image is lost, whoever is killed, and what is there is not made again."""

import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from support import VAECTL, Result, environment, one_line, write_png

Call = Callable[..., Result]


def encode(*arguments: object, cwd: Path) -> subprocess.Popen[bytes]:
    """A running `vaectl encode --ray local`."""
    command = [str(VAECTL), "encode", *map(str, arguments), "--ray", "local", "-o", "latents/"]
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def find_actors(ancestor: int) -> list[int]:
    """The processes below one that hold a model."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
            session = os.getsid(int(entry.name))
        except OSError:
            continue
        if title.startswith(b"ray::MapWorker") and session and is_below(int(entry.name), ancestor):
            found.append(int(entry.name))
    return found


def is_below(process: int, ancestor: int) -> bool:
    """Whether a process is a descendant of another."""
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


@pytest.mark.long
def test_fifty_killed_workers_lose_nothing(vae: Path, run: Call, tmp_path: Path) -> None:
    run("encode", "mnist:train", "-c", vae, "-o", "z.npy")
    latents, kills = np.load(tmp_path / "z.npy"), 0
    while kills < 50:
        running = encode("mnist:train", "-c", vae, cwd=tmp_path)
        killed = 0
        while killed < 5 and running.poll() is None:
            time.sleep(0.5)
            if any((tmp_path / "latents").glob("part-*")) and (actors := find_actors(running.pid)):
                os.kill(actors[0], signal.SIGKILL)
                killed += 1
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0 and killed, err.decode()
        kills += killed
        table = parquet.read_table(tmp_path / "latents")
        np.testing.assert_allclose(np.array(table["z"].to_pylist()), latents, atol=1e-5)
        shutil.rmtree(tmp_path / "latents")


def test_tables_that_are_there_are_kept_and_the_others_made(vae: Path, run: Call, tmp_path: Path) -> None:
    _, err = encode("mnist:test", "mnist:train:7", "-c", vae, cwd=tmp_path).communicate()
    parts = sorted((tmp_path / "latents").glob("part-*"))
    assert len(parts) == 3, err.decode()
    run("encode", "mnist:test", "mnist:train:7", "-c", vae, "-o", "z.npy")
    table = parquet.read_table(tmp_path / "latents")
    assert table["name"].to_pylist()[::10000] == ["mnist-test-00000", "mnist-train-00007"]
    np.testing.assert_allclose(np.array(table["z"].to_pylist()), np.load(tmp_path / "z.npy"), atol=1e-5)
    before = {part: part.stat().st_mtime_ns for part in parts}
    parts[1].unlink()
    encode("mnist:test", "mnist:train:7", "-c", vae, cwd=tmp_path).communicate()
    after = {part: part.stat().st_mtime_ns for part in parts}
    assert [part for part in parts if before[part] != after[part]] == [parts[1]]
    result = run("encode", "mnist:test", "-c", vae, "--ray", "local", "-o", "latents/", code=1)
    one_line(result, "'latents/' has tables of a run with different inputs", "name another folder, or remove this one")
    result = run("encode", "mnist:test", "mnist:train:7", "-c", vae, "--ray", "local", "-o", "latents")
    one_line(result, "'latents' already has 3 of 3 tables: all done")


def test_images_that_cannot_be_read_are_listed(vae: Path, digits: NDArray[np.uint8], tmp_path: Path) -> None:
    for index in range(3):
        write_png(tmp_path / "digits" / f"{index}.png", digits[index])
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for index in range(3):
            tar.add(tmp_path / "digits" / f"{index}.png", f"tar-{index}.png")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:4500])
    (tmp_path / "digits" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    running = encode("digits", "cut.tar", "-c", vae, "--skip-bad", cwd=tmp_path)
    _, err = running.communicate()
    assert running.returncode == 0, err.decode()
    assert b"broken.png' is damaged" in err and b": skipped" in err and b"skipped 1 image that could not be read" in err
    assert b"'cut.tar' ends early" in err and b"what follows in it is skipped" in err
    assert all(line.startswith(b"vaectl encode: ") for line in err.splitlines())
    assert parquet.read_table(tmp_path / "latents")["name"].to_pylist() == ["0.png", "1.png", "2.png", "tar-0.png"]


def test_tar_files_at_urls_are_encoded_one_by_one(vae: Path, digits: NDArray[np.uint8], run: Call, tmp_path: Path) -> None:
    for start in (0, 4):
        with tarfile.open(tmp_path / f"{start}.tar", "w") as tar:
            for index in range(start, start + 4):
                write_png(tmp_path / "digits" / f"{index}.png", digits[index])
                tar.add(tmp_path / "digits" / f"{index}.png", f"{index}.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        _, err = encode(f"{url}/0.tar", f"{url}/4.tar", "-c", vae, cwd=tmp_path).communicate()
        tables = [run("encode", f"{url}/{{0..4}}.tar", "-c", vae, "--format", "csv", "--skip-bad", "--shard", part).stdout
                  for part in ("1/2", "2/2")]  # fmt: skip
        result = run("encode", f"{url}/0.tar", "-c", vae, "--shard", "1/2", code=1)
    finally:
        server.shutdown()
    assert parquet.read_table(tmp_path / "latents")["name"].to_pylist() == [f"{index}.png" for index in range(8)], err.decode()
    names = [[line.split(b",")[0] for line in table.splitlines()[1:]] for table in tables]
    assert names == [[b"%d.png" % index for index in part] for part in (range(4), range(4, 8))]
    one_line(result, "0.tar' cannot be divided into 2 shards, because tar files and pipes are read whole")


def test_ray_that_cannot_run_is_told_in_words(
    vae: Path, run: Call, shell: Call, without: Callable[[str], dict[str, str]]
) -> None:
    for others in (
        ["-o", "z.npy"],
        ["-o", "z/", "--shard", "1/2"],
        ["-o", "z/", "--sample"],
        ["-o", "z/", "--format", "csv"],
        [],
    ):
        one_line(run("encode", "mnist:0", "-c", vae, "--ray", "local", *others, code=2), "as in --ray local -o latents/")
    result = shell(f"vaectl encode mnist:0 -c {vae} --ray local -o z/", **without("ray"))
    one_line(result, "ray is not installed: pip install 'vaectl[ray]'")
