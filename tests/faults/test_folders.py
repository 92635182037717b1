import io
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import VAECTL, Result, environment, one_line, write_png

from vaectl.base.errors import VaectlError
from vaectl.images.resize import ResizeSpec
from vaectl.io.decoders import ImageDecoder
from vaectl.io.inputs import read_batches
from vaectl.io.sources import Folder, SkipPolicy

Call = Callable[..., Result]
Fails = Callable[..., str]
Unprivileged = Callable[[str], Result]
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_a_folder_without_images_is_refused(fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    fails("encode", "none", "-c", tiny, words=("'none': no such file",))
    for name in ("empty", "notes"):
        fails("encode", name, "-c", tiny, words=(f"'{name}' contains no images",))
        fails("train", "vae", "--data", name, words=(f"'{name}' contains no images",))


def test_loops_pipes_sockets_and_devices_in_a_folder_are_skipped(run: Call, tiny: Path, tmp_path: Path) -> None:
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


ODD_NAMES = [
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


def test_files_of_any_name_are_read(run: Call, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_png(folder / "a.png", PIXELS)
    data = (folder / "a.png").read_bytes()
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(data)
    table = run("encode", "odd", "-c", tiny, "--format", "csv").stdout
    assert table.count(b"\n") == len(ODD_NAMES) + 3  # the header, a.png, and the line break in a name
    assert b"\xff\xfe.png," in table and b'"line\nbreak.png",' in table
    for name in ODD_NAMES:
        one = os.fsdecode(name)
        assert run("encode", "-c", tiny, "--", one, cwd=folder).stdout.startswith(b"\x93NUMPY")
        (folder / one).write_bytes(data[:-20])
        error = run("encode", "-c", tiny, "--", one, cwd=folder, code=1).stderr
        assert error.count(b"\n") == 1 and b"damaged" in error
        (folder / one).write_bytes(data)
    run("decode", "-c", tiny, "-o", "out/", input=run("encode", "odd", "-c", tiny).stdout)
    assert not (folder / "canary").exists()


def test_results_keep_the_names_of_their_inputs(run: Call, dae: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_png(folder / "a.png", PIXELS)
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes((folder / "a.png").read_bytes())
    run("denoise", "odd", "-c", dae, "-o", "clean/")
    found = set(os.listdir(os.fsencode(tmp_path / "clean")))
    assert found == {name if name.endswith(b".png") else name + b".png" for name in [*ODD_NAMES, b"a.png"]}


def test_thousands_of_files_are_read_with_few_file_descriptors(tiny: Path, tmp_path: Path) -> None:
    data = write_png(tmp_path / "a.png", PIXELS).read_bytes()
    for number in range(5000):
        path = tmp_path / "many" / str(number % 7) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    command = [VAECTL, "encode", "many", "-c", tiny]

    def limit_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, env=environment(), preexec_fn=limit_descriptors, timeout=60
    )
    assert result.returncode == 0 and not result.stderr
    assert np.load(io.BytesIO(result.stdout)).shape == (5000, 1)


def test_a_file_that_vanishes_while_its_folder_is_read_is_an_error(tmp_path: Path) -> None:
    for number in range(100):
        write_png(tmp_path / f"{number:03d}.png", PIXELS)
    batches = read_batches([Folder(str(tmp_path))], ImageDecoder(ResizeSpec((1000, 1000, 3))), SkipPolicy())
    next(batches)
    (tmp_path / "099.png").unlink()
    with pytest.raises(VaectlError, match=r"099\.png': no such file"):
        list(batches)


def test_images_are_read_in_one_order_however_the_system_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/1", "a", "b/2", "a.b/1", "c"):
        write_png(tmp_path / f"{name}.png", PIXELS)
    scandir = os.scandir

    class ReversedScandir:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> "ReversedScandir":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __iter__(self) -> object:
            return iter(self.entries)

    def names() -> list[str]:
        batches = read_batches([Folder(str(tmp_path))], ImageDecoder(ResizeSpec((3, 4, 1))), SkipPolicy())
        return [name for batch in batches for name in batch.names]

    before = names()
    monkeypatch.setattr(os, "scandir", ReversedScandir)
    assert names() == before and sorted(before) == before


@pytest.mark.parametrize(
    "command",
    ["encode in -o z.npy -c tiny.safetensors", "train vae --data in --epochs 1 -f", "evaluate --data in -c tiny.safetensors"],
)
def test_a_subfolder_that_cannot_be_listed_is_an_error_or_skipped(
    command: str, unprivileged: Unprivileged, tiny: Path, tmp_path: Path
) -> None:
    tiny.chmod(0o644)
    for name in ("a", "closed/b", "open/c"):
        write_png(tmp_path / "in" / f"{name}.png", PIXELS)
    closed = tmp_path / "in" / "closed"
    closed.chmod(0o000)
    refused, skipped = unprivileged(command), unprivileged(f"{command} --skip-bad")
    closed.chmod(0o755)
    assert refused.returncode == 1 and skipped.returncode == 0
    one_line(refused, "'in/closed': permission denied: check its permissions, or skip such files with --skip-bad")
    warnings = skipped.stderr.decode()
    assert warnings.count("'in/closed': permission denied: skipped\n") == 1
    assert "images that could not be read" not in warnings and "image that could not be read" not in warnings
    if command.startswith("encode"):
        assert len(np.load(tmp_path / "z.npy")) == 2


def test_a_folder_whose_only_images_cannot_be_listed_is_refused(unprivileged: Unprivileged, tiny: Path, tmp_path: Path) -> None:
    tiny.chmod(0o644)
    write_png(tmp_path / "in" / "closed" / "a.png", PIXELS).parent.chmod(0o000)
    results = [unprivileged(line) for line in ("encode in -c tiny.safetensors", "train vae --data in")]
    (tmp_path / "in" / "closed").chmod(0o755)
    for result in results:
        one_line(result, "'in/closed': permission denied")
