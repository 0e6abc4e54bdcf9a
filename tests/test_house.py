"""The house holds: imports go down only, files stay short, and nothing heavy is imported before it is needed.

That no public name is without a docstring is ruff's to hold (``D1`` in pyproject.toml).
"""

import ast
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
SRC = HERE / "src" / "hwsi"
# top to bottom, as docs/architecture.md draws it
ROOMS = [
    "cli", "server", "benchmarks", "training", "inference", "encoding", "model", "features", "encoders", "hierarchy",
    "slide", "phantom", "presets", "weights", "extensions", "errors", "units",
]  # fmt: skip


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        found |= {n.split(".")[1] for n in names if n.startswith("hwsi.")}
    return found & set(ROOMS)


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_down_only(path: Path) -> None:
    room = path.relative_to(SRC).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    assert room in ROOMS, f"{room} is not a room of the house"
    upward = {other for other in _imports(path) if ROOMS.index(other) < ROOMS.index(room)}
    assert not upward, f"{path.name} in {room}/ imports from above: {upward}"


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_a_file_answers_one_question(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with what is notable"


@pytest.mark.parametrize("call", [["-c", "import hwsi"], ["-m", "hwsi", "--help"]])
def test_import_and_help_are_quick_and_light(call: list[str]) -> None:
    code = [sys.executable, "-X", "importtime", *call]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    for heavy in ("torch", "transformers", "openslide", "scipy", "cv2"):
        assert not any(line.rstrip().endswith(f"| {heavy}") for line in done.stderr.splitlines()), heavy
    # the best of three: the machine may be busy, the program may not be slow
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *call], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


def test_files_of_tests_have_names_of_their_own() -> None:
    """Two of one name cannot be collected together."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


AT_THE_ROOT = {
    ".ci", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE",
    "Makefile", "README.md", "benchmarks", "constraints.txt", "docs", "examples", "mkdocs.yml", "pyproject.toml",
    "recipes", "src", "tests", "tools", "web",
}  # fmt: skip


def test_nothing_lies_at_the_root_that_does_not_belong_there() -> None:
    if not (HERE / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git: what is the project's own cannot be told from what was made here")
    call = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(call, cwd=HERE, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"git does not read this folder: {listed.stderr.strip()}")
    assert {line.split("/")[0].strip('"') for line in listed.stdout.splitlines()} - AT_THE_ROOT == set()
