"""What the README tells a newcomer to type, typed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(language: str = "bash") -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(language) for line in block.splitlines()]
    return [line for line in lines if line.startswith("hwsi ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small slide and the reports of the names that the README uses."""
    path = tmp_path_factory.mktemp("newcomer")
    write_phantom(path / "slide.svs", Spec(seed=11, diagnosis="invasive ductal carcinoma", width_um=768, height_um=768))
    shutil.copytree(path, path / "slides")
    reports = ("Invasive ductal carcinoma of the breast.", "Adenocarcinoma of the colon.")
    lines = [json.dumps({"slide": f"slide{i or ''}", "report": text}) for i, text in enumerate(reports)]
    (path / "reports.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_there_are_two_commands_and_make_knows_them() -> None:
    first = re.search(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert first is not None
    targets = [line.split()[1] for line in first[1].splitlines() if line.startswith("make ")]
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in targets)


def test_commands_work(folder: Path) -> None:
    """One after the other, as they stand there: a later one reads what an earlier one wrote."""
    failed = {}
    for command in commands():
        done = subprocess.run(
            [sys.executable, "-m", "hwsi", *shlex.split(command)[1:]], cwd=folder, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            failed[command] = done.stderr
    assert failed == {}


@pytest.mark.parametrize("command", commands("sh"))
def test_command_with_weights_that_may_be_elsewhere_works_or_says_what_is_missing(command: str, folder: Path) -> None:
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", "hwsi", *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 2), done.stderr
    if done.returncode and words[1] != "doctor":  # which tells all that is missing on stdout
        assert re.fullmatch(r"hwsi: error \[(?!usage)\w+\]: [^\n]+\n", done.stderr), done.stderr


def test_python_works(folder: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "R1" in done.stdout
