"""Every example runs as it is, in an empty folder, and every notebook is stripped and runs from top to bottom."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
OFFLINE = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
# what a run says and leaves
SCRIPTS = {
    "ask.py": ("nats", ["job/features/drawn.h5"]),
    "evidence_in_qupath.py": ("evidence.geojson", ["evidence.geojson", "cells.geojson"]),
    "train_on_your_reports.py": ("run is trained", ["run/stage.json", "run/model/model.safetensors"]),
    "own_encoder.py": ("6 numbers each", []),
    "cohort_on_ray.py": (": done features/", ["job/summary.md"]),
}


def test_all_examples_are_known_and_told() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in (*SCRIPTS, *(p.name for p in NOTEBOOKS)) if f"]({name})" not in told] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_no_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    if name == "cohort_on_ray.py" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    call = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(call, cwd=tmp_path, env=os.environ | OFFLINE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    says, leaves = SCRIPTS[name]
    assert says in done.stdout
    assert [file for file in leaves if not (tmp_path / file).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    for variable, value in OFFLINE.items():
        monkeypatch.setenv(variable, value)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(output.output_type == "execute_result" for output in shown)
