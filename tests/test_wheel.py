"""What is released: wheel and sdist, and the wheel at work in an empty environment, outside the clone."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HWSI"))}


def run(call: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(call, cwd=folder, env=BARE, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> None:
    """A package index, without which nothing can be built or installed."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "hatchling"]
    done = run(pip, tmp_path_factory.mktemp("index"))
    if done.returncode:
        pytest.skip(f"no package index is reached: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def dist(index, tmp_path_factory) -> Path:
    """The sdist, and the wheel that is built from it: without git, so the version must have travelled."""
    folder = tmp_path_factory.mktemp("dist")
    done = run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_both_have_the_same_version_and_all_that_is_needed(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    version = re.fullmatch(r"hwsi-(.+)-py3-none-any", wheel.stem)[1]
    assert sdist.name == f"hwsi-{version}.tar.gz"
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {"hwsi/py.typed", "hwsi/presets/nano.yaml", "hwsi/weights/nano/model/model.safetensors"} <= inside
    assert any(name.startswith("hwsi/server/static/") for name in inside)
    assert {name.split("/")[0] for name in inside} == {"hwsi", f"hwsi-{version}.dist-info"}
    with tarfile.open(sdist) as tar:
        names = tar.getnames()
    assert f"hwsi-{version}/src/hwsi/__init__.py" in names
    made_here = {".venv", ".hypothesis", "node_modules", "dist", "__pycache__"}
    assert [name for name in names if made_here & set(name.split("/"))] == []


def test_the_wheel_runs_the_demo_in_an_empty_environment(dist, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    (wheel,) = dist.glob("*.whl")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "-c", str(ROOT / "constraints.txt"), str(wheel)]
    done = run(pip, tmp_path)
    assert done.returncode == 0, done.stderr
    hwsi = str(tmp_path / "env" / "bin" / "hwsi")
    said = run([hwsi, "--version"], tmp_path).stdout
    assert said.split() == ["hwsi", wheel.stem.split("-")[1]]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run([hwsi, "demo", "-o", "demo"], elsewhere)
    assert done.returncode == 0, done.stderr
    assert "closed questions right" in done.stdout
    assert (elsewhere / "demo" / "report.html").is_file()
