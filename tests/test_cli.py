"""What all commands share: help, streams, errors, signals, exit codes and a quick start."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import VAECTL, Result, environment, one_line, write_png

from vaectl.cli import COMMANDS

Call = Callable[..., Result]


@pytest.fixture
def image(tmp_path: Path, digits: NDArray[np.uint8]) -> Path:
    return write_png(tmp_path / "img.png", digits[0])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, run: Call) -> None:
    text = run(command, "--help").stdout.decode()
    assert COMMANDS[command] in text
    assert f"  vaectl {command}" in text
    assert run(command, "-h").stdout.decode() == text


def test_the_program_lists_its_commands_and_prints_its_version(run: Call) -> None:
    text = run("--help").stdout.decode()
    assert all(command in text and summary in text for command, summary in COMMANDS.items())
    assert run().stdout.decode() == text
    assert run("-V").stdout == run("--version").stdout == b"vaectl 0.2.0\n"


def test_the_module_runs_like_the_command(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "vaectl", "-V"], capture_output=True, cwd=tmp_path, check=True)
    assert result.stdout == b"vaectl 0.2.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["encode", "--colour"],
        ["train", "gan"],
        ["train"],
        ["grid", "--range", "1"],
        ["grid", "--steps", "x"],
        ["--nope"],
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help_and_exits_2(arguments: list[str], run: Call) -> None:
    one_line(run(*arguments, code=2), "vaectl", "--help")


def test_a_misspelled_command_is_corrected_and_an_unknown_one_lists_no_others(run: Call) -> None:
    text = one_line(run("encod", code=2), "no command 'encod'", "did you mean encode?")
    assert not [command for command in COMMANDS if command != "encode" and command in text]
    text = one_line(run("push", code=2), "no command 'push'", "see vaectl --help")
    assert not [command for command in COMMANDS if command in text]


@pytest.mark.parametrize("command", ["encode", "decode", "grid"])
def test_without_a_checkpoint_the_error_says_how_to_train_one(command: str, run: Call, image: Path) -> None:
    arguments = [image] if command == "encode" else []
    result = run(command, *arguments, code=1)
    one_line(result, f"vaectl {command}: ", "vae.safetensors", "vaectl train vae", "-c FILE")


def test_without_a_checkpoint_of_a_default_name_the_error_names_the_others(run: Call, tmp_path: Path) -> None:
    for name in ("emoji.safetensors", "vae.resume.safetensors"):
        (tmp_path / name).touch()
    result = run("info", code=1)
    text = one_line(result, "looked for ", "vae.safetensors", "ae.safetensors", "dae.safetensors", "'emoji.safetensors'", "-c")
    assert "resume" not in text


def test_info_lists_the_ready_made_models_where_there_is_no_checkpoint(run: Call) -> None:
    result = run("info")
    assert result.stdout.startswith(b"photo ") and not result.stderr
    one_line(run("info", "--json", code=1), "no checkpoint in this folder")
    decoder = next(line for line in run("info", "photo").stdout.decode().splitlines() if line.startswith("decoder "))
    assert " > 3 x (push_skip > conv2d 64 64 3 1 > relu > conv2d 64 64 3 1 > add_skip) > " in decoder
    one_line(run("info", "Phot", code=1), "there is no checkpoint 'Phot'", "did you mean photo?")
    one_line(run("info", "digits", code=1), "there is no checkpoint 'digits'", "ready-made model (photo)")


def test_of_several_checkpoints_the_newest_is_used_and_named(run: Call, models: Path, tmp_path: Path) -> None:
    for age, name in enumerate(["ae", "vae", "dae"]):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
        os.utime(tmp_path / f"{name}.safetensors", (1000 - age, 1000 - age))
    result = run("info")
    assert result.stdout.startswith(b"model        ae,")
    assert "using 'ae.safetensors', the newest of" in result.stderr.decode()
    assert run("info", "-q").stderr == b""
    assert run("info", "-c", "vae.safetensors").stdout.startswith(b"model        vae,")
    assert run("info", VAECTL_CHECKPOINT="dae.safetensors").stdout.startswith(b"model        dae,")
    assert run("info", "ae.safetensors", VAECTL_CHECKPOINT="dae.safetensors").stderr == b""


@pytest.mark.parametrize("buffering", ["buffered", "unbuffered"])
def test_commands_form_a_pipeline(buffering: str, shell: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", digits[index])
    line = "set -o pipefail; cat 0.png 1.png 2.png | vaectl encode | tee z.npy | vaectl decode | tee strip.png | vaectl decode"
    result = shell(line, buffering=buffering, VAECTL_CHECKPOINT=str(vae))
    assert result.returncode == 1
    one_line(result, "stdin is a PNG file", "run vaectl encode on it first")
    assert np.load(tmp_path / "z.npy").shape == (3, 2)
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("buffering", ["buffered", "unbuffered"])
def test_a_dash_is_stdin_or_stdout(buffering: str, run: Call, vae: Path, image: Path) -> None:
    piped = run("encode", "-", "-o", "-", "-c", vae, input=image.read_bytes(), buffering=buffering).stdout
    assert piped == run("encode", image, "-c", vae).stdout
    assert piped.startswith(b"\x93NUMPY")


def test_stdin_may_hold_several_arrays(run: Call, vae: Path, image: Path) -> None:
    z = run("encode", image, "-c", vae).stdout
    strip = run("decode", "-c", vae, input=z + z + z).stdout
    assert Image.open(BytesIO(strip)).size == (84, 28)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_empty_stdin_is_an_error(command: str, run: Call, vae: Path) -> None:
    one_line(run(command, "-c", vae, code=1), "stdin is empty")


def test_a_reader_that_closes_early_ends_the_command_silently(shell: Call, vae: Path) -> None:
    line = "vaectl grid --scale 8 | head -c 1 > one; exit ${PIPESTATUS[0]}"
    for buffering in ("buffered", "unbuffered"):
        result = shell(line, buffering=buffering, VAECTL_CHECKPOINT=str(vae))
        assert result.returncode == 141
        assert result.stderr == b""


def test_a_full_or_closed_stdout_is_an_error_and_leaves_no_files(shell: Call, vae: Path, tmp_path: Path) -> None:
    for redirection, words in ((">/dev/full", "no space left"), (">&-", "closed")):
        result = shell(f"vaectl grid {redirection}", VAECTL_CHECKPOINT=str(vae))
        assert result.returncode == 1
        one_line(result, "vaectl grid: stdout", words)
    assert list(tmp_path.iterdir()) == []
    assert shell("vaectl grid -o plane.png <&- >&- 2>&-", VAECTL_CHECKPOINT=str(vae)).returncode == 0
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_ends_a_shell_loop(tmp_path: Path, small_data: Path) -> None:
    script = f"for i in 1 2 3; do echo start >> log; {VAECTL} train vae --data {small_data} --epochs 100000 -f; done"
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True, env=environment()
    )
    assert process.stderr is not None
    assert b"epoch 1/" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    time.sleep(0.2)
    assert (tmp_path / "log").read_text() == "start\n"


def test_a_traceback_is_printed_on_request(run: Call) -> None:
    result = run("info", "none.safetensors", code=1, VAECTL_DEBUG="1")
    assert b"Traceback" in result.stderr and b"no such file" in result.stderr


def imported_modules(arguments: list[str], cwd: Path) -> set[str]:
    """The modules that a call has imported when it ends."""
    code = (
        "import sys, os, vaectl.cli as cli\n"
        "sys.argv = ['vaectl', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as leave: assert not leave.code, leave.code\n"
        "os.write(2, ('\\0' + ' '.join(sys.modules)).encode())"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, env=environment(), check=True)
    return set(result.stderr.decode().partition("\0")[2].split())


SLOW_IMPORTS = {"torch", "torchvision", "numpy", "PIL", "rich.progress", "rich.console", "safetensors"}


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_slow(arguments: list[str], tmp_path: Path) -> None:
    assert not imported_modules(arguments, tmp_path) & SLOW_IMPORTS


@pytest.mark.parametrize("command", ["encode", "decode", "grid", "info"])
def test_commands_on_little_data_do_not_import_torch(command: str, vae: Path, tmp_path: Path, image: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((1, 2)))
    arguments = {
        "encode": ["img.png", "-o", "out.npy"],
        "decode": ["z.npy", "-o", "out.png"],
        "grid": ["-o", "out.png"],
        "info": [],
    }
    found = imported_modules([command, *arguments[command], "-c", str(vae)], tmp_path)
    assert "numpy" in found
    assert not found & {"torch", "torchvision", "rich.progress", "rich.console", "importlib.metadata"}


def test_a_model_is_exported_without_torch(vae: Path, tmp_path: Path) -> None:
    found = imported_modules(["export", "-c", str(vae), "-o", "out.onnx"], tmp_path)
    assert "onnx" in found and "torch" not in found


def test_training_does_not_import_what_would_slow_its_start(small_data: Path, tmp_path: Path) -> None:
    found = imported_modules(["train", "vae", "--data", str(small_data), "--epochs", "1", "-q"], tmp_path)
    assert "torch" in found
    assert not found & {"torchvision", "torch._dynamo", "sympy"}


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_imports_nothing_slow(command: str, tmp_path: Path) -> None:
    report = "atexit.register(lambda: os.write(2, ' '.join(sys.modules).encode()))"
    program = [sys.executable, "-c", f"import sys, atexit, os, vaectl.cli as cli\n{report}\ncli.main()"]
    request = {"COMP_WORDS": f"vaectl {command} --device ", "COMP_CWORD": "3", "_VAECTL_COMPLETE": "complete_bash"}
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, env=environment() | request, check=True)
    assert not set(result.stderr.decode().split()) & SLOW_IMPORTS


def test_too_little_memory_is_one_line(vae: Path, tmp_path: Path) -> None:
    limited = f"ulimit -v 900000; {VAECTL} decode z.npy --scale 100 --columns 1 -c {vae} -o p.png"
    np.save(tmp_path / "z.npy", np.zeros((11, 2)))
    result = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, env=environment(), timeout=60)
    assert result.returncode == 1
    one_line(result, "not enough memory")
    assert not (tmp_path / "p.png").exists()


def test_any_stream_may_hold_several_images(shell: Call, vae: Path, image: Path) -> None:
    result = shell(f"vaectl encode <(cat {image} {image}) -c {vae}")
    assert np.load(BytesIO(result.stdout)).shape == (2, 2), result.stderr


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_the_names_of_stdout_in_dev_are_stdout(name: str, shell: Call, vae: Path) -> None:
    result = shell(f"vaectl sample -n 2 -c {vae} --format npy -o {name} | cat")
    assert np.load(BytesIO(result.stdout)).shape == (2, 2), result.stderr
    result = shell(f"(echo first; vaectl sample -n 2 -c {vae} --format npy -o {name}) > both; cat both")
    assert result.stdout.startswith(b"first\n\x93NUMPY"), result.stderr


def test_the_output_may_be_a_process_substitution(shell: Call, vae: Path, tmp_path: Path) -> None:
    result = shell(f"vaectl sample -n 2 -c {vae} --format npy -o >(cat > copy.npy); sleep 0.5")
    assert np.load(tmp_path / "copy.npy").shape == (2, 2), result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "train vae --lr nan",
        "train vae --beta inf",
        "train vae --sigma nan --likelihood gaussian",
        "interpolate z.npy --fps nan",
        "grid --range nan 3",
        "decode z.npy --columns 9999999999999999999",
        "train vae --samples 99999999999999999999",
    ],
)
def test_numbers_that_are_not_finite_or_too_large_are_refused(line: str, run: Call) -> None:
    option = next(word for word in line.split() if word.startswith("--"))
    one_line(run(*line.split(), code=2), option)


@pytest.mark.parametrize("line", ["--help", "--version", "train --help", "--show-completion"])
@pytest.mark.parametrize(("redirection", "words"), [(">/dev/full", "no space left"), (">&-", "bad file descriptor")])
def test_help_for_a_full_or_closed_stdout_is_one_line(line: str, redirection: str, words: str, shell: Call) -> None:
    result = shell(f"vaectl {line} {redirection}", SHELL="/bin/bash")
    assert result.returncode == 1
    one_line(result, words)


def test_without_docstrings_help_is_shorter(shell: Call) -> None:
    line = f"for command in '' {' '.join(COMMANDS)}; do vaectl $command --help || exit; done"
    result = shell(line, PYTHONOPTIMIZE="2", PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode()
    assert all(summary in text for summary in COMMANDS.values()) and "None" not in text
