"""What every verb keeps to: streams, errors, signals, exit codes and a quick start."""

import os
import pty
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

from vaectl import cli

Call = Callable[..., Result]


@pytest.fixture
def picture(tmp_path: Path, digits: NDArray[np.uint8]) -> Path:
    return write_png(tmp_path / "img.png", digits[0])


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_with_an_example(verb: str, run: Call) -> None:
    text = run(verb, "--help").stdout.decode()
    assert cli.VERBS[verb] in text
    assert f"  vaectl {verb}" in text
    assert run(verb, "-h").stdout.decode() == text


def test_the_root_lists_the_verbs_and_the_version(run: Call) -> None:
    text = run("--help").stdout.decode()
    assert all(verb in text and summary in text for verb, summary in cli.VERBS.items())
    assert run().stdout.decode() == text
    assert run("-V").stdout == run("--version").stdout == b"vaectl 0.1.0\n"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "vaectl", "-V"], capture_output=True, cwd=tmp_path, check=True)
    assert result.stdout == b"vaectl 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["encod"],
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


@pytest.mark.parametrize("verb", ["encode", "decode", "grid", "info"])
def test_without_a_checkpoint_the_error_says_how_to_train_one(verb: str, run: Call, picture: Path) -> None:
    one_line(run(verb, *([picture] if verb == "encode" else []), code=1), f"vaectl {verb}: ", "vaectl train vae", "-c FILE")


def test_the_newest_checkpoint_is_taken_and_named_when_there_was_a_choice(run: Call, models: Path, tmp_path: Path) -> None:
    for age, name in enumerate(["ae", "vae", "dae"]):
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
        os.utime(tmp_path / f"{name}.safetensors", (1000 - age, 1000 - age))
    result = run("info")
    assert result.stdout.startswith(b"model        ae,")
    assert "'ae.safetensors' is taken, the newest of" in result.stderr.decode()
    assert run("info", "-q").stderr == b""
    assert run("info", "-c", "vae.safetensors").stdout.startswith(b"model        vae,")
    assert run("info", VAECTL_CHECKPOINT="dae.safetensors").stdout.startswith(b"model        dae,")
    assert run("info", "ae.safetensors", VAECTL_CHECKPOINT="dae.safetensors").stderr == b""


@pytest.mark.parametrize("buffering", ["buffered", "unbuffered"])
def test_pictures_go_through_a_pipe_of_verbs(
    buffering: str, shell: Call, vae: Path, tmp_path: Path, digits: NDArray[np.uint8]
) -> None:
    for index in range(3):
        write_png(tmp_path / f"{index}.png", digits[index])
    line = "set -o pipefail; cat 0.png 1.png 2.png | vaectl encode | tee z.npy | vaectl decode | tee strip.png | vaectl decode"
    result = shell(line, buffering=buffering, VAECTL_CHECKPOINT=str(vae))
    assert result.returncode == 1
    one_line(result, "stdin is a PNG file", "run vaectl encode on it first")
    assert np.load(tmp_path / "z.npy").shape == (3, 2)
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("buffering", ["buffered", "unbuffered"])
def test_a_dash_is_stdin_and_stdout(buffering: str, run: Call, vae: Path, picture: Path) -> None:
    piped = run("encode", "-", "-o", "-", "-c", vae, input=picture.read_bytes(), buffering=buffering).stdout
    assert piped == run("encode", picture, "-c", vae).stdout
    assert piped.startswith(b"\x93NUMPY")


def test_several_arrays_on_stdin_follow_each_other(run: Call, vae: Path, picture: Path) -> None:
    z = run("encode", picture, "-c", vae).stdout
    strip = run("decode", "-c", vae, input=z + z + z).stdout
    assert Image.open(BytesIO(strip)).size == (84, 28)


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_empty_stdin_is_an_error(verb: str, run: Call, vae: Path) -> None:
    one_line(run(verb, "-c", vae, code=1), "stdin is empty")


@pytest.mark.fault(33)
def test_a_reader_that_closes_early_ends_it_silently(shell: Call, vae: Path) -> None:
    line = "vaectl grid --scale 8 | head -c 1 > one; exit ${PIPESTATUS[0]}"
    for buffering in ("buffered", "unbuffered"):
        result = shell(line, buffering=buffering, VAECTL_CHECKPOINT=str(vae))
        assert result.returncode == 141
        assert result.stderr == b""


@pytest.mark.fault(33)
def test_a_full_or_closed_stdout_fails_and_pollutes_nothing(shell: Call, vae: Path, tmp_path: Path) -> None:
    for redirection, words in ((">/dev/full", "no space left"), (">&-", "closed")):
        result = shell(f"vaectl grid {redirection}", VAECTL_CHECKPOINT=str(vae))
        assert result.returncode == 1
        one_line(result, "vaectl grid: stdout", words)
    assert list(tmp_path.iterdir()) == []
    assert shell("vaectl grid -o plane.png <&- >&- 2>&-", VAECTL_CHECKPOINT=str(vae)).returncode == 0
    assert (tmp_path / "plane.png").read_bytes().startswith(b"\x89PNG")


def on_terminal(arguments: list[object], cwd: Path, program: object = VAECTL, **variables: str) -> tuple[int, str]:
    """The exit code of a program and what it wrote, with a terminal as all its streams."""
    main, terminal = pty.openpty()
    env = environment() | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"} | variables
    command = [str(program), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, env=env)
    os.close(terminal)
    said = b""
    while True:
        try:
            more = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        said += more
    os.close(main)
    return process.wait(timeout=60), said.decode()


@pytest.mark.fault(34)
def test_an_array_is_kept_off_a_terminal_unless_forced(vae: Path, picture: Path, tmp_path: Path) -> None:
    code, said = on_terminal(["encode", picture, "-c", vae], tmp_path)
    assert code == 2
    assert "stdout is a terminal" in said and "-o -" in said
    code, said = on_terminal(["encode", picture, "-c", vae, "-o", "-", "--format", "csv"], tmp_path)
    assert code == 0
    assert said.startswith("name,z0,z1")


def test_a_picture_is_drawn_on_a_terminal(vae: Path, tmp_path: Path) -> None:
    code, said = on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path)
    assert code == 0
    assert "▀" in said and "\x1b[" in said
    code, said = on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path, NO_COLOR="1", TERM="dumb")
    assert code == 0
    assert "\x1b[3" not in said and set(said) & set("#%@")
    code, said = on_terminal(["grid", "--steps", "3", "-c", vae], tmp_path, PYTHONIOENCODING="latin-1")
    assert code == 0 and set(said) & set("#%@")


def test_with_a_terminal_and_no_input_it_says_what_to_give(vae: Path, tmp_path: Path) -> None:
    code, said = on_terminal(["encode", "-c", vae, "-o", "z.npy"], tmp_path)
    assert code == 2
    assert "give a PICTURE" in said


@pytest.mark.fault(35)
def test_a_shell_loop_stops_at_ctrl_c(tmp_path: Path, small_data: Path) -> None:
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


def test_a_traceback_is_shown_when_asked_for(run: Call) -> None:
    result = run("info", "none", code=1, VAECTL_DEBUG="1")
    assert b"Traceback" in result.stderr and b"no such file" in result.stderr


def loaded(arguments: list[str], cwd: Path) -> set[str]:
    """The modules that a call has imported by its end."""
    code = (
        "import sys, os, vaectl.cli as cli\n"
        "sys.argv = ['vaectl', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as leave: assert not leave.code, leave.code\n"
        "os.write(2, ('\\0' + ' '.join(sys.modules)).encode())"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, env=environment(), check=True)
    return set(result.stderr.decode().partition("\0")[2].split())


HEAVY = {"torch", "torchvision", "numpy", "PIL", "rich.progress", "rich.console", "safetensors"}


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_imports_next_to_nothing(arguments: list[str], tmp_path: Path) -> None:
    assert not loaded(arguments, tmp_path) & HEAVY


@pytest.mark.parametrize("verb", ["encode", "decode", "grid", "info"])
def test_verbs_in_use_never_import_torch_or_what_they_do_not_need(verb: str, vae: Path, tmp_path: Path, picture: Path) -> None:
    np.save(tmp_path / "z.npy", np.zeros((1, 2)))
    arguments = {
        "encode": ["img.png", "-o", "out.npy"],
        "decode": ["z.npy", "-o", "out.png"],
        "grid": ["-o", "out.png"],
        "info": [],
    }
    found = loaded([verb, *arguments[verb], "-c", str(vae)], tmp_path)
    assert "numpy" in found
    assert not found & {"torch", "torchvision", "rich.progress", "rich.console", "importlib.metadata"}


def test_training_never_imports_what_slows_its_start(small_data: Path, tmp_path: Path) -> None:
    found = loaded(["train", "vae", "--data", str(small_data), "--epochs", "1", "-q"], tmp_path)
    assert "torch" in found
    assert not found & {"torchvision", "torch._dynamo", "sympy"}


def completions(line: str, cwd: Path) -> list[str]:
    """What bash offers at the end of a line."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_VAECTL_COMPLETE": "complete_bash"}
    result = subprocess.run([VAECTL], cwd=cwd, capture_output=True, env=environment() | asked, timeout=60, check=True)
    assert result.stderr == b""
    return result.stdout.decode().split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vaectl ", list(cli.VERBS)),
        ("vaectl in", ["interpolate", "info"]),
        ("vaectl train ", ["ae", "dae", "vae"]),
        ("vaectl train vae --bi", ["--binarize"]),
        ("vaectl train vae --data m", ["mnist"]),
        ("vaectl grid --device c", ["cpu", "cuda"]),
        ("vaectl grid --spacing ", ["linear", "quantile"]),
        ("vaectl info -c ", ["mine.safetensors", "vae.safetensors"]),
        ("vaectl info v", ["vae.safetensors"]),
        ("vaectl encode img", []),  # the shell's own file names
    ],
)
def test_the_shell_completes_verbs_models_data_devices_and_checkpoints(line: str, expected: list[str], tmp_path: Path) -> None:
    for name in ("vae.safetensors", "mine.safetensors", "img.png"):
        (tmp_path / name).touch()
    assert completions(line, tmp_path) == expected


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_a_completion_script_can_be_had_for_each_shell(shell_name: str, tmp_path: Path) -> None:
    asked = {"_VAECTL_COMPLETE": f"source_{shell_name}"}
    result = subprocess.run([VAECTL], cwd=tmp_path, capture_output=True, env=environment() | asked, timeout=60, check=True)
    assert b"vaectl" in result.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_completion_imports_next_to_nothing(verb: str, tmp_path: Path) -> None:
    say = "atexit.register(lambda: os.write(2, ' '.join(sys.modules).encode()))"
    command = [sys.executable, "-c", f"import sys, atexit, os, vaectl.cli as cli\n{say}\ncli.main()"]
    asked = {"COMP_WORDS": f"vaectl {verb} --device ", "COMP_CWORD": "3", "_VAECTL_COMPLETE": "complete_bash"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment() | asked, check=True)
    assert not set(result.stderr.decode().split()) & HEAVY


@pytest.mark.parametrize(("term", "start"), [("xterm-kitty", "\x1b_G"), ("foot", "\x1bP")])
def test_a_terminal_that_takes_pixels_gets_them(term: str, start: str, vae: Path, tmp_path: Path) -> None:
    code, said = on_terminal(["sample", "-n", "4", "-c", vae], tmp_path, TERM=term, TMUX="")
    assert code == 0
    assert start in said and "▀" not in said


def test_too_little_memory_is_one_line(run: Call, vae: Path, tmp_path: Path) -> None:
    limited = f"ulimit -v 900000; {VAECTL} decode z.npy --scale 100 --columns 1 -c {vae} -o p.png"
    np.save(tmp_path / "z.npy", np.zeros((60, 2)))
    result = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, env=environment(), timeout=60)
    assert result.returncode == 1
    one_line(result, "not enough memory")
    assert not (tmp_path / "p.png").exists()


def test_pictures_follow_each_other_in_any_stream(shell: Call, vae: Path, picture: Path) -> None:
    result = shell(f"vaectl encode <(cat {picture} {picture}) -c {vae}")
    assert np.load(BytesIO(result.stdout)).shape == (2, 2), result.stderr


def test_a_stream_is_read_once_by_somebody_who_watches(vae: Path, tmp_path: Path, digits: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "digits.npy", np.tile(digits, (40, 1, 1, 1)))
    slowly = "(head -c 1500000 digits.npy; sleep 2; tail -c +1500001 digits.npy)"
    line = f"{VAECTL} encode <({slowly}) -c {vae} -o z.npy"
    code, said = on_terminal(["-c", line], tmp_path, "bash")
    assert code == 0, said
    assert len(np.load(tmp_path / "z.npy")) == 40 * len(digits)


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1"])
def test_the_system_s_names_for_stdout_are_stdout(place: str, shell: Call, vae: Path) -> None:
    result = shell(f"vaectl sample -n 2 -c {vae} --format npy -o {place} | cat")
    assert np.load(BytesIO(result.stdout)).shape == (2, 2), result.stderr
    result = shell(f"(echo first; vaectl sample -n 2 -c {vae} --format npy -o {place}) > both; cat both")
    assert result.stdout.startswith(b"first\n\x93NUMPY"), result.stderr


def test_a_result_goes_into_another_process(shell: Call, vae: Path, tmp_path: Path) -> None:
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
def test_numbers_that_mean_nothing_are_refused(line: str, run: Call) -> None:
    option = next(word for word in line.split() if word.startswith("--"))
    one_line(run(*line.split(), code=2), option)


@pytest.mark.parametrize("line", ["--help", "--version", "train --help"])
def test_help_for_a_full_disk_is_one_line(line: str, shell: Call) -> None:
    result = shell(f"vaectl {line} > /dev/full")
    assert result.returncode == 1
    one_line(result, "no space left")
