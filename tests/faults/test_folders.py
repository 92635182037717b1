import io
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import VAECTL, Result, environment, write_png

from vaectl.errors import VaectlError
from vaectl.frame import Frame
from vaectl.io import sources

Call = Callable[..., Result]
Fails = Callable[..., str]
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.fault(22)
def test_a_folder_of_nothing_is_an_error(fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    fails("encode", "none", "-c", tiny, words=("'none': no such file",))
    for name in ("empty", "notes"):
        fails("encode", name, "-c", tiny, words=(f"'{name}' holds no pictures",))
        fails("train", "vae", "--data", name, words=(f"'{name}' holds no pictures",))


@pytest.mark.fault(23)
def test_what_is_no_file_in_a_folder_is_passed_over(run: Call, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_png(folder / "a.png", PIXELS)
    (folder / "loop").symlink_to(".")
    (folder / "self").symlink_to("self")
    (folder / "up").symlink_to("..")
    (folder / "nowhere").symlink_to("none")
    (folder / "null").symlink_to("/dev/null")
    (folder / "endless").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        result = run("encode", "odd", "-c", tiny, "--format", "csv")
    assert [line.split(",")[0] for line in result.stdout.decode().splitlines()] == ["name", "a.png"]


ODD = [
    b"two words.png",
    b"line\nbreak.png",
    b"[1].png",
    b"%d.png",
    b"*.png",
    b"-c.png",
    b"--help",
    b"\xff\xfe.png",
    b"'quoted\".png",
    b"$(touch canary).png",
]


@pytest.mark.fault(24)
def test_odd_names_are_names(run: Call, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_png(folder / "a.png", PIXELS)
    data = (folder / "a.png").read_bytes()
    for name in ODD:
        (folder / os.fsdecode(name)).write_bytes(data)
    table = run("encode", "odd", "-c", tiny, "--format", "csv").stdout
    assert table.count(b"\n") == len(ODD) + 3  # the header, a.png, and the break in a name
    assert b"\xff\xfe.png," in table and b'"line\nbreak.png",' in table
    for name in ODD:
        one = os.fsdecode(name)
        assert run("encode", "-c", tiny, "--", one, cwd=folder).stdout.startswith(b"\x93NUMPY")
        (folder / one).write_bytes(data[:-20])
        text = run("encode", "-c", tiny, "--", one, cwd=folder, code=1).stderr
        assert text.count(b"\n") == 1 and b"damaged" in text
        (folder / one).write_bytes(data)
    run("decode", "-c", tiny, "-o", "out/", input=run("encode", "odd", "-c", tiny).stdout)
    assert not (folder / "canary").exists()


@pytest.mark.fault(24)
def test_results_keep_odd_names(run: Call, dae: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_png(folder / "a.png", PIXELS)
    for name in ODD:
        (folder / os.fsdecode(name)).write_bytes((folder / "a.png").read_bytes())
    run("denoise", "odd", "-c", dae, "-o", "clean/")
    found = set(os.listdir(os.fsencode(tmp_path / "clean")))
    assert found == {name if name.endswith(b".png") else name + b".png" for name in [*ODD, b"a.png"]}


@pytest.mark.fault(25)
def test_many_files_are_read_with_few_descriptors(tiny: Path, tmp_path: Path) -> None:
    data = write_png(tmp_path / "a.png", PIXELS).read_bytes()
    for number in range(5000):
        path = tmp_path / "many" / str(number % 7) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    command = [VAECTL, "encode", "many", "-c", tiny]

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    result = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment(), preexec_fn=few, timeout=60)
    assert result.returncode == 0 and not result.stderr
    assert np.load(io.BytesIO(result.stdout)).shape == (5000, 1)


@pytest.mark.fault(25)
def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    for number in range(100):
        write_png(tmp_path / f"{number:03d}.png", PIXELS)
    batches = sources.read_pictures([str(tmp_path)], Frame((1000, 1000, 3), "crop"))
    next(batches)
    (tmp_path / "099.png").unlink()
    with pytest.raises(VaectlError, match=r"099\.png': no such file"):
        list(batches)


@pytest.mark.fault(26)
def test_the_order_in_which_a_folder_is_listed_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/1", "a", "b/2", "a.b/1", "c"):
        write_png(tmp_path / f"{name}.png", PIXELS)
    listed = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with listed(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> "Backwards":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __iter__(self) -> object:
            return iter(self.entries)

    def names() -> list[str]:
        return [name for batch in sources.read_pictures([str(tmp_path)], Frame((3, 4, 1), "crop")) for name in batch.names]

    before = names()
    monkeypatch.setattr(os, "scandir", Backwards)
    assert names() == before and sorted(before) == before
