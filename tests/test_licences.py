"""The ledger of licences names everything that the project stands on, and every weight that it can read."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").splitlines()
TODO = "make licences"


@pytest.fixture(scope="module")
def ledger():
    spec = spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_in_it_with_a_licence(ledger) -> None:
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in LINES if line.count(" | ") == 2}
    assert [n for n, of in ledger.requirements().items() if not lines.get(n, "").endswith(f"| {', '.join(of)} |")] == []
    assert [line for line in LINES if "| unknown |" in line] == []


def test_every_weight_is_in_it() -> None:
    # in a process of its own: other tests register encoders, too
    code = "import licences; print(*licences.weights(), sep='\\n')"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", capture_output=True, text=True, check=True)
    assert found.stdout.count("\n") > 10
    assert [line for line in found.stdout.splitlines() if line not in LINES] == [], TODO


def test_a_licence_is_read_as_packages_state_it(ledger) -> None:
    assert ledger.licence("rich") == "MIT"
    assert ledger.licence("h5py").startswith("BSD")
    assert ledger.licence("nothing-of-this-name") == "unknown"
