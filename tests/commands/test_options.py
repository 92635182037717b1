"""The help of options, and their completion in shells."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support import VAECTL, environment

from vaectl import cli
from vaectl.cli import COMMANDS, load_command
from vaectl.images.corruption import EXAMPLES


def run_completion(cwd: Path, **request: str) -> str:
    """What the program writes for a shell that asks for completions."""
    result = subprocess.run([VAECTL], cwd=cwd, capture_output=True, env=environment() | request, timeout=60, check=True)
    assert result.stderr == b""
    return result.stdout.decode()


def complete_in_bash(line: str, cwd: Path) -> list[str]:
    """What bash offers at the end of a line; nothing means the shell's own file names."""
    words = str(len(line.split(" ")) - 1)
    return run_completion(cwd, COMP_WORDS=line, COMP_CWORD=words, _VAECTL_COMPLETE="complete_bash").split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vaectl ", list(COMMANDS)),
        ("vaectl in", ["interpolate", "info"]),
        ("vaectl train ", ["ae", "dae", "vae"]),
        ("vaectl train vae --bi", ["--binarize"]),
        ("vaectl train vae --data m", ["mnist"]),
        ("vaectl grid --device c", ["cpu", "cuda"]),
        ("vaectl grid --spacing ", ["linear", "quantile"]),
        ("vaectl info -c ", ["mine.safetensors", "vae.safetensors", "photo"]),
        ("vaectl info v", ["vae.safetensors"]),
        ("vaectl train dae --corrupt ", [*EXAMPLES[:6], "watermark", "camera"]),
        ("vaectl denoise --corrupt ma", ["mask:0.3"]),
        ("vaectl train dae --corrupt watermark:lo", ["watermark:logo.png", "watermark:logos"]),
        ("vaectl train dae --corrupt watermark:logos/b", ["watermark:logos/big.png"]),
        ("vaectl encode fa", ["fashion-mnist"]),
        ("vaectl interpolate km", ["kmnist"]),
        ("vaectl grid --at mn", ["mnist"]),
        ("vaectl encode m", []),
        ("vaectl encode ", []),
        ("vaectl encode img", []),
    ],
)
def test_bash_completes_commands_and_values(line: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "logos").mkdir()
    for name in ("vae.safetensors", "vae.resume.safetensors", "mine.safetensors", "img.png", "logo.png", "logos/big.png"):
        (tmp_path / name).touch()
    assert complete_in_bash(line, tmp_path) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_completion_script(shell: str, tmp_path: Path) -> None:
    assert "vaectl" in run_completion(tmp_path, _VAECTL_COMPLETE=f"source_{shell}")


# In place of zsh's own, which draws a menu: prints each completion and its description, split as `_arguments` splits them.
PRINT_ARGUMENTS = """
_arguments() { local list=${1#*\\(\\(}; eval "items=(${list%\\)\\)})"; print -rl -- "${(@)items//$'\\n'/ }" }
eval "$(cat)"
"""


def complete_in_zsh(line: str, cwd: Path) -> dict[str, str]:
    """What zsh offers at the end of a line, with descriptions."""
    script = run_completion(cwd, _TYPER_COMPLETE_ARGS=line, _VAECTL_COMPLETE="complete_zsh")
    command = ["zsh", "-f", "-c", PRINT_ARGUMENTS]
    result = subprocess.run(command, input=script.encode(), capture_output=True, timeout=60, check=True)
    assert result.stderr == b""
    items = (item.partition(":") for item in result.stdout.decode().splitlines())
    return {name: " ".join(text.replace("\\", "").split()) for name, _, text in items}


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize("line", [f"{command} --".replace("train", "train vae") for command in COMMANDS])
def test_zsh_shows_the_whole_help_of_every_option(line: str, tmp_path: Path) -> None:
    options = [option for option in load_command(line.split()[0]).params if option.param_type_name == "option"]
    expected = {name: option.help for option in options for name in option.opts if name.startswith("--")}
    found = complete_in_zsh(f"vaectl {line}", tmp_path)
    assert expected.items() <= found.items()


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_shows_the_whole_summary_of_every_command(tmp_path: Path) -> None:
    assert complete_in_zsh("vaectl ", tmp_path) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_contains_an_apostrophe_which_zsh_completion_would_drop(command: str) -> None:
    assert "'" not in COMMANDS[command]
    for parameter in load_command(command).params:
        assert "'" not in (getattr(parameter, "help", None) or "")


def test_the_options_of_the_program_have_no_apostrophe_either() -> None:
    texts = [cli.HELP, *(str(getattr(option, "help", "")) for option in cli.typer.main.get_command(cli.app).params)]
    assert not [text for text in texts if "'" in text]


def test_every_option_has_help() -> None:
    for command in COMMANDS:
        for parameter in load_command(command).params:
            assert getattr(parameter, "help", None), f"{command} {parameter.name}"
