import csv
import re
import shutil
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES, Result, edit_safetensors, one_line, run_on_terminal, write_tiny_checkpoint

import vaectl

Call = Callable[..., Result]
BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def texts(svg: bytes) -> list[str]:
    """The texts in a figure, which matplotlib keeps as comments."""
    return re.findall(r"<!-- (.*?) -->", svg.decode())


def has_color(png: bytes, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(Image.open(BytesIO(png)).convert("RGB")) == color).all(axis=2).any())


def test_a_pipe_gets_a_png_with_a_line_for_each_run(run: Call, vae: Path, ae: Path) -> None:
    one, two = run("curves", vae).stdout, run("curves", vae, ae).stdout
    assert has_color(one, BLUE) and not has_color(one, ORANGE)
    assert has_color(two, BLUE) and has_color(two, ORANGE)


def test_a_panel_for_each_metric_and_a_legend(run: Call, models: Path, tmp_path: Path) -> None:
    long = tmp_path / ("long" * 20)
    shutil.copytree(models, long)
    run("curves", *long.glob("*ae.safetensors"), "-o", tmp_path / "all.svg")
    run("curves", "vae.safetensors", "dae.safetensors", "-o", tmp_path / "two.svg", cwd=models)
    found = texts((tmp_path / "two.svg").read_bytes())
    panels = ["loss (nats)", "-log p(x|z) (nats)", "KL (nats)", "held-out loss (nats)", "held-out -ELBO (nats)"]
    panels += ["held-out PSNR (dB), corrupted: dotted"]
    assert [text for text in found if "(" in text] == panels
    assert found[-2:] == ["vae", "dae"]
    assert found.count("epoch") == 3
    assert "…" in texts((tmp_path / "all.svg").read_bytes())[-1]  # a long path is cut


def test_a_loss_of_one_part_has_one_panel(run: Call, dae: Path) -> None:
    found = texts(run("curves", dae, "--format", "svg").stdout)
    panels = ["loss", "held-out loss", "held-out -ELBO", "held-out PSNR"]
    assert [text.partition(" (")[0] for text in found if "(" in text] == panels


def test_a_table_has_every_figure_of_every_epoch(run: Call, vae: Path, dae: Path, tmp_path: Path) -> None:
    (tmp_path / "a, b.safetensors").write_bytes(vae.read_bytes())
    table = run("curves", "a, b.safetensors", dae, "-o", "-", "--format", "csv").stdout
    run("curves", "a, b.safetensors", dae, "-o", "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == table
    rows = list(csv.DictReader(StringIO(table.decode())))
    cards = {"a, b": vaectl.load(vae).card, str(dae).removesuffix(".safetensors"): vaectl.load(dae).card}
    assert [(row["run"], int(row["epoch"])) for row in rows] == [(name, epoch) for name in cards for epoch in range(1, 21)]
    for row, epoch in zip(rows, [epoch for card in cards.values() for epoch in card.epochs], strict=True):
        assert {name: float(value) for name, value in row.items() if value and name not in ("run", "epoch")} == epoch


def test_a_terminal_gets_bars_and_needs_no_matplotlib(vae: Path, without: Callable[[str], dict[str, str]]) -> None:
    code, text = run_on_terminal(["curves", "vae.safetensors"], vae.parent, **without("matplotlib"))
    assert code == 0
    losses = [epoch["loss"] for epoch in vaectl.load(vae).card.epochs]
    head, line, *_ = text.splitlines()
    name, first, bars, last = line.split()
    assert (head, name, first, last) == ("loss (nats)", "vae", f"{losses[0]:.2f}", f"{losses[-1]:.2f}")
    assert len(bars) == 20 and bars[0] == "█" and "▁" in bars[-5:]


def test_without_matplotlib_the_error_says_how_to_install_it(
    shell: Call, vae: Path, without: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    hidden = without("matplotlib")
    result = shell(f"vaectl curves {vae} -o x.png", **hidden)
    assert one_line(result, "matplotlib is not installed: pip install 'vaectl[curves]'") and result.returncode == 1
    assert not (tmp_path / "x.png").exists()
    assert shell(f"vaectl curves {vae} -o x.csv", **hidden).returncode == 0


def test_torch_is_not_imported(shell: Call, vae: Path, without: Callable[[str], dict[str, str]]) -> None:
    result = shell(f"vaectl curves {vae}", **without("torch"))
    assert result.returncode == 0 and result.stdout.startswith(b"\x89PNG")


def test_the_checkpoint_here_is_the_default(run: Call, vae: Path) -> None:
    assert run("curves", cwd=vae.parent).stdout.startswith(b"\x89PNG")
    table = ("curves", "--format", "csv")
    assert run(*table, "-c", vae).stdout == run(*table, VAECTL_CHECKPOINT=str(vae)).stdout == run(*table, vae).stdout


def test_old_and_ready_made_checkpoints_have_curves(run: Call) -> None:
    table = run("curves", "photo", FIXTURES / "unet.safetensors", "--format", "csv").stdout.decode()
    assert table.startswith(
        "run,epoch,loss,reconstruction,kl,held_out_loss,held_out_neg_elbo,held_out_psnr,held_out_psnr_before\nphoto,1,"
    )
    assert table.splitlines()[-1].endswith(",,,")  # format 1 had no held-out metrics


def test_a_pdf_is_written_by_its_suffix(run: Call, vae: Path, tmp_path: Path) -> None:
    run("curves", vae, "-o", "x.PDF")
    assert (tmp_path / "x.PDF").read_bytes().startswith(b"%PDF")


def test_what_cannot_be_written_is_refused(run: Call, vae: Path, tmp_path: Path) -> None:
    one_line(run("curves", vae, "-o", "x.gif", code=2), "'x.gif': this command writes png, svg, pdf, csv")
    one_line(run("curves", vae, "-o", ".", code=1), "'.' is a folder: give a file name")
    code, text = run_on_terminal(["curves", vae, "--format", "svg"], tmp_path)
    assert code == 2 and "stdout is a terminal: name a file (-o curves.svg)" in text


def test_a_long_run_has_as_many_bars_as_fit_on_a_line(run: Call, vae: Path, tmp_path: Path) -> None:
    epochs = [{"loss": 1000 - number, "reconstruction": 1000 - number, "kl": 0} for number in range(500)]
    edit_safetensors(tmp_path / "x.safetensors", lambda card, header: card.update(epochs=epochs), source=vae)
    code, text = run_on_terminal(["curves", "x.safetensors"], tmp_path)
    title, unit, name, first, bars, last = text.split()
    assert (code, title, unit, name, first, last) == (0, "loss", "(nats)", "x", "1000.00", "501.00")
    assert len(bars) == 40 and bars == "".join(sorted(bars, reverse=True)) and set(bars) == set("█▇▆▅▄▃▂▁")


@pytest.mark.parametrize("epochs", [[{"kl": 0}], [{"loss_before": 1}], [{"loss": 1}, {}]])
def test_a_metric_without_those_beside_it_has_a_panel(epochs: object, run: Call, vae: Path, tmp_path: Path) -> None:
    edit_safetensors(tmp_path / "x.safetensors", lambda card, header: card.update(epochs=epochs), source=vae)
    assert texts(run("curves", "x.safetensors", "--format", "svg").stdout).count("epoch") == 1


def test_a_checkpoint_without_epochs_is_named(run: Call, vae: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    words = "'tiny.safetensors' has no training epochs: give a checkpoint that vaectl train wrote"
    one_line(run("curves", vae, "tiny.safetensors", code=1), words)
    edit_safetensors(tmp_path / "tiny.safetensors", lambda card, header: card.update(epochs=[{}]), source=vae)
    one_line(run("curves", "tiny.safetensors", code=1), words)
    one_line(run("curves", code=1), "no checkpoint in this folder")


@pytest.mark.parametrize(
    "epochs", [[{"loss": "low"}], [{"loss": float("nan")}], [{"loss": 1e300}], [{"loss": [1]}], [{str(n): 1 for n in range(99)}]]
)
def test_damaged_epochs_are_named(epochs: object, run: Call, vae: Path, tmp_path: Path) -> None:
    edit_safetensors(tmp_path / "x.safetensors", lambda card, header: card.update(epochs=epochs), source=vae)
    one_line(run("curves", "x.safetensors", code=1), "the epochs of 'x.safetensors' are damaged: ", ": give a checkpoint that")


@pytest.mark.parametrize("name", ["$\\frac$", "_x", "two\nlines", "\x1b[31mred", "한글", "x" * 200, "-dash", "a,b"])
def test_files_of_any_name_have_curves(name: str, run: Call, vae: Path, tmp_path: Path) -> None:
    edit = {"epochs": [{"loss": 2, "\x1b$\\": 1}, {"loss": 1}]}
    edit_safetensors(tmp_path / f"{name}.safetensors", lambda card, header: card.update(edit), source=vae)
    result = run("curves", "--format", "svg", "--", f"{name}.safetensors")
    assert not result.stderr
    assert "\\x1b$\\" in texts(result.stdout)
    code, text = run_on_terminal(["curves", "--", f"{name}.safetensors"], tmp_path)
    assert code == 0 and all(line.isprintable() for line in text.splitlines())
