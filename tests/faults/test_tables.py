"""CSV tables of latents that are damaged, or made to do harm."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Result

Call = Callable[..., Result]
Fails = Callable[..., str]

FAULTY = {
    "name,z0\na,1\nb\n": "line 3 has 1 fields, its header has 2: correct it",
    "name,z0\na,1,2\n": "line 2 has 3 fields, its header has 2: correct it",
    "name,label,z0\na,1\n": "line 2 has 2 fields, its header has 3: correct it",
    "name,z0\na,one\n": "line 2: z0 is 'one', not a finite float32 number: correct it",
    "name,z0\na,1\nb,\n": "line 3: z0 is '', not a finite float32 number",
    'name,z0\n"a\nb","0,5"\n': "line 2: z0 is '0,5', not a finite float32 number",
    "name,z0\na,nan\n": "line 2: z0 is 'nan', not a finite float32 number",
    "name,z0\na,-inf\n": "line 2: z0 is '-inf', not a finite float32 number",
    "name,z0\na,3.5e38\n": "line 2: z0 is '3.5e38', not a finite float32 number",
    "name,z0\na," + "x" * 100_000: f"line 2: z0 is '{'x' * 50}', not a finite",
    "name,z0,z1\na,1,2\n": "line 1 has latents of shape (N, 2): latents of shape (N, 1) are expected: encode with the",
    "name,label\na,b\n": "line 1: the header name, label (if known), z0, z1, ... is expected",
    "name,z1\na,1\n": "line 1: the header name, label (if known), z0, z1, ... is expected",
    ",psnr,z0,z1\n0,a,1,2\n": "line 1 has latents of shape (N, 2): latents of shape (N, 1) are expected: encode with the",
    "z0,1\n0,1\n": "line 1: the header name, label (if known), z0, z1, ... is expected",
    "0,1\n": "is neither an image nor an array: latents (NPY or CSV) are expected: write them with vaectl encode",
    "name,z0\nname,z0,z1\n": "line 2 has latents of shape (N, 2)",
    "name,z0\n": "is empty: it contains no latents",
    "": "is empty: latents (NPY or CSV) are expected",
    "a.png,1\n": "is neither an image nor an array: latents (NPY or CSV) are expected: write them with vaectl encode",
    "name;z0\na;1\n": "is neither an image nor an array: latents (NPY or CSV) are expected: write them with vaectl encode "
    "(a CSV begins with the line name,z0,z1,...)",
    'name,z0\n"a,1\n': "line 2 is not CSV (unexpected end of data): write it again",
    'name,z0\n"' + "a\n" * 100_000: "line 2 is not CSV (field larger than field limit (131072))",
}


@pytest.mark.parametrize("text", FAULTY, ids=FAULTY.values())
def test_a_faulty_table_is_refused_with_its_line(text: str, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "z.csv").write_text(text)
    fails("decode", "z.csv", "-c", tiny, words=(f"'z.csv' {FAULTY[text]}",))
    fails("decode", "-c", tiny, input=text.encode(), words=(f"stdin {FAULTY[text]}",))


@pytest.mark.parametrize("data", [b"x" * (40 << 20), b'"x\n",' * (8 << 20)], ids=["a field", "fields"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(data: bytes, fails: Fails, tiny: Path) -> None:
    words = ("stdin line 2 is longer than 4 MB: is this a CSV table?",)
    fails("decode", "-c", tiny, input=b"name,z0\n" + data, words=words)


@pytest.mark.parametrize("command", ["encode", "denoise"])
def test_a_table_is_not_an_image(command: str, fails: Fails, dae: Path) -> None:
    fails(command, "-c", dae, input=b"name,z0\na,1\n", words=("stdin is a CSV table: an image is expected",))


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/a", "..", "a\0b", "a\0/../.."])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, run: Call, fails: Fails, tiny: Path, tmp_path: Path) -> None:
    table = f"name,z0\n{name},1\n".encode()
    fails(
        "decode", "-c", tiny, "-o", "out/", input=table, words=(f"{name!r} is not a file name within 'out/'", "number the files")
    )
    run("decode", "-c", tiny, "-o", "image-%03d.png", input=table)
    assert (tmp_path / "image-000.png").exists()


def test_odd_names_in_a_table_become_files(run: Call, tiny: Path, tmp_path: Path) -> None:
    names = ["a..png", "-b.png", "é.jpg", "..c", '"d, e"', "\udcff", "$(touch canary)", "sub/f", " "]
    table = "name,z0\n" + "".join(f"{name},1\n" for name in names)
    run("decode", "-c", tiny, "-o", "out/", input=table.encode("utf-8", "surrogateescape"))
    files = {"a..png", "-b.png", "é.png", "..c.png", "d, e.png", "\udcff.png", "$(touch canary).png", " .png"}
    assert {*os.listdir(tmp_path / "out")} == files | {"sub"}
