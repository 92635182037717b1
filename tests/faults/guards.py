"""Break each guard of vaectl in turn, in a copy: some test must fail.

python tests/faults/guards.py [A FILE OR A WORD OF THOSE TO BREAK]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The file, what stands in it, what takes its place, and the tests that must notice.
GUARDS = [
    ("io/tensors.py", "or length > LONGEST_HEADER ", "", "tests/faults/test_checkpoints.py"),
    ("io/tensors.py", "        if reader.peek(1):\n            raise ValueError", "        if False:\n            raise ValueError", "tests/faults/test_checkpoints.py"),
    ("io/tensors.py", "if len(found) < len(pairs):", "if False:", "tests/test_checkpoint.py tests/faults/test_checkpoints.py"),
    ("io/tensors.py", "for name in sorted(due.keys() ^ header.keys() - {\"__metadata__\"}):", "for name in []:", "tests/faults/test_checkpoints.py"),
    ("io/tensors.py", "if found != expected:", "if False:", "tests/faults/test_checkpoints.py"),
    ("io/tensors.py", "if not np.isfinite(tensor).all():", "if False:", "tests/faults/test_checkpoints.py"),
    ("checkpoint.py", "if values[\"format\"] > FORMAT:", "if False:", "tests/faults/test_checkpoints.py"),
    ("checkpoint.py", "except tensors.DAMAGE as error:", "except KeyError as error:", "tests/faults/test_checkpoints.py"),
    ("layers.py", "if prod(shape) > MOST_VALUES:", "if False:", "tests/faults/test_checkpoints.py"),
    ("layers.py", " or len(rows) > MOST_ROWS", "", "tests/faults/test_checkpoints.py"),
    ("layers.py", "or any(type(value) is not int or not 0 < value < MOST_VALUES for value in sizes.values())", "", "tests/faults/test_checkpoints.py"),
    ("io/arrays.py", " or length > LONGEST_HEADER", "", "tests/faults/test_arrays.py"),
    ("io/arrays.py", "if dtype.kind not in \"biuf\":", "if False:", "tests/faults/test_arrays.py"),
    ("io/arrays.py", "if any(size < 0 for size in shape):", "if False:", "tests/faults/test_arrays.py"),
    ("io/arrays.py", "if len(payload) < count * header.dtype.itemsize:", "if False:", "tests/faults/test_arrays.py"),
    ("io/arrays.py", "if member.file_size > max(SAFE_TO_UNPACK, MOST_UNPACKED * member.compress_size):", "if False:", "tests/faults/test_arrays.py"),
    ("io/arrays.py", "except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, LZMAError)", "except (OSError, EOFError)", "tests/io/test_arrays.py"),
    ("io/arrays.py", "if wrong.any():", "if False:", "tests/faults/test_arrays.py"),
    ("io/codecs.py", "if prod(image.size) > MOST_PIXELS:", "if False:", "tests/faults/test_pictures.py tests/io/test_codecs.py"),
    ("io/codecs.py", "if unpacked(image) > max(SAFE_TO_UNPACK, MOST_UNPACKED * len(data)):", "if False:", "tests/faults/test_pictures.py"),
    ("io/codecs.py", "    if data.startswith(PNG):", "    if False:", "tests/io tests/faults/test_folders.py"),
    ("io/codecs.py", "image = Image.open(BytesIO(data), formats=PICTURES)", "image = Image.open(BytesIO(data))", "tests/io/test_codecs.py"),
    ("io/codecs.py", "    except MemoryError as error:", "    except KeyError as error:", "tests/io/test_codecs.py"),
    ("io/codecs.py", "            hush_libtiff()", "            pass", "tests/faults/test_mutations.py tests/faults/test_pictures.py"),
    ("io/parts.py", "entry.is_dir(follow_symlinks=False) or is_file(entry)", "True", "tests/faults/test_folders.py"),
    ("io/parts.py", "return sorted(", "return list(", "tests/faults/test_folders.py"),
    ("io/files.py", "            os.fsync(descriptor)\n        os.replace", "            pass\n        os.replace", "tests/faults/test_output.py"),
    ("io/files.py", "            sync_folder(folder)", "            pass", "tests/faults/test_output.py"),
    ("io/files.py", "        os.fchmod(descriptor, mode_for(target))\n", "", "tests/faults/test_output.py"),
    ("io/files.py", "    except OSError as error:", "    except FileExistsError as error:", "tests/faults/test_output.py"),
    ("io/files.py", "    if not os.access(folder if is_replaced(path) else target, os.W_OK):", "    if False:", "tests/faults/test_output.py"),
    ("io/files.py", "replacing(os.path.realpath(path), durable)", "replacing(path, durable)", "tests/io/test_files.py"),
    ("io/locks.py", "            os.unlink(path)\n        raise", "            pass\n        raise", "tests/faults/test_output.py"),
    ("io/locks.py", "                if held(descriptor, path):\n                    os.unlink(path)", "                os.unlink(path)", "tests/io/test_locks.py"),
    ("io/locks.py", "        except BlockingIOError:\n            pass\n", "", "tests/io/test_locks.py"),
    ("io/locks.py", "            if held(descriptor, path):\n                return descriptor\n        except BlockingIOError:", "            return descriptor\n        except BlockingIOError:", "tests/io/test_locks.py"),
    ("states.py", "if values.pop(\"sha256\") != sha256(values, found):", "if not values.pop(\"sha256\"):", "tests/test_states.py"),
    ("states.py", "            if before != now:", "            if False:", "tests/test_states.py"),
    ("states.py", "        if os.path.exists(path) and not force and not resume:", "        if False:", "tests/test_states.py"),
    ("states.py", "        if os.path.exists(checkpoint) and not force and not resume:", "        if False:", "tests/commands/test_train.py"),
    ("states.py", "if keeper.saved_step == 0:", "if False:", "tests/commands/test_train.py"),
    ("states.py", "        keeper.drop()\n\n", "\n", "tests/test_states.py"),
    ("training.py", "            self.looks.check(vector.sum().item())", "            pass", "tests/test_training.py"),
    ("batches.py", "                self.random.set_state(now)", "                pass", "tests/test_training.py"),
    ("training.py", "        self.likelihood.go_on(tensors[\"likelihood\"])\n", "", "tests/test_training.py"),
    ("weights.py", "        self.count.fill_(steps)\n", "", "tests/test_training.py"),
    ("training.py", "        if not np.isfinite(value):", "        if False:", "tests/test_training.py"),
    ("training.py", "    except (MemoryError, RuntimeError) as error:", "    except KeyError as error:", "tests/test_training.py"),
    ("signals.py", "        if self:\n            self.handlers[number](number, frame)\n", "", "tests/test_signals.py"),
    ("signals.py", "        if callable(handler):", "        if True:", "tests/test_signals.py"),
    ("signals.py", "    os.kill(os.getpid(), number)\n", "", "tests/test_cli.py tests/test_states.py"),
    ("cli.py", "    guard_standard_streams()\n    # A", "    # A", "tests/test_cli.py"),
    ("cli.py", "    except BrokenPipeError:\n        die_of(signal.SIGPIPE)\n", "", "tests/test_cli.py"),
    ("cli.py", "    except MemoryError:", "    except ZeroDivisionError:", "tests/test_cli.py"),
    ("downloads.py", "request.full_url.replace(\"http:\", \"https:\", 1)", "request.full_url", "tests/faults/test_downloads.py"),
    ("io/streams.py", "size if size >= SMALLEST_BMP else len(data)", "size", "tests/faults/test_pictures.py"),
    ("io/locks.py", " and name.endswith((\".part\", \".lock\"))", "", "tests/io/test_locks.py"),
    ("io/codecs.py", "    if not ((values >= 0) & (values <= 1)).all():", "    if False:", "tests/faults/test_pictures.py"),
    ("io/parts.py", "    except OSError:  # a link that leads in a circle", "    except KeyError:", "tests/faults/test_folders.py"),
    ("io/parts.py", "or not os.path.isfile(path):", "or False:", "tests/test_cli.py"),
    ("io/sources.py", "        if width == 0:", "        if False:", "tests/faults/test_arrays.py"),
    ("datasets.py", "    if not len(shelves[False]):\n        raise", "    if False:\n        raise", "tests/test_datasets.py"),
    ("training.py", "        if tensors[\"weights\"].shape != self.weights.master.shape:", "        if False:", "tests/test_training.py"),
    ("cli.py", "isinstance(number, float) and not isfinite(number)", "False", "tests/test_cli.py"),
    ("cli.py", "        silence_stdout()\n", "", "tests/test_cli.py"),
    ("commands/info.py", "{printable(value)}", "{value}", "tests/faults/test_checkpoints.py"),
    ("io/sinks.py", "with files.told(\"a temporary file\"):", "if True:", "tests/faults/test_output.py"),
    ("downloads.py", "                os.replace(aside, folder)\n", "                pass\n", "tests/faults/test_downloads.py"),
    ("downloads.py", "            shutil.rmtree(fresh, ignore_errors=True)\n\n", "            pass\n\n", "tests/faults/test_downloads.py"),
    ("downloads.py", "            if os.path.isdir(folder):\n                shutil.copytree(folder, fresh)\n", "            shutil.rmtree(folder, ignore_errors=True)\n", "tests/faults/test_downloads.py"),
]  # fmt: skip


def notices(copy: Path, name: str, guard: str, broken: str, tests: str) -> bool:
    """Whether some test fails when the guard is broken."""
    path = copy / "vaectl" / name
    whole = path.read_text()
    assert whole.count(guard) == 1, f"{name}: {whole.count(guard)} times {guard!r}"
    path.write_text(whole.replace(guard, broken))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *tests.split()]
    result = subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True)
    path.write_text(whole)
    return result.returncode in (1, 2)  # 2 where pytest was stopped by the first failure


def main(word: str) -> None:
    """Break all in whose line the word stands."""
    chosen = [guard for guard in GUARDS if word in " ".join(guard)]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # some tests are somebody without privileges
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", "docs"))
        missed = [guard for guard in chosen if not shown(guard, notices(copy, *guard))]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} broken guards were noticed")
    sys.exit(bool(missed))


def shown(guard: tuple[str, str, str, str], noticed: bool) -> bool:
    """Whether it was noticed, and a line that says so."""
    print("noticed" if noticed else "MISSED ", guard[0], " ".join(guard[1].split())[:90], flush=True)
    return noticed


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
