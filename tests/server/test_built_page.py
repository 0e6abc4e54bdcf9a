"""The page that ships: whole, without another host in it, and the build of its sources."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src" / "hwsi" / "server" / "static"


def test_the_built_page_is_whole_and_names_no_other_host():
    index = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert named, "the page loads nothing"
    assert all((STATIC / name).is_file() for name in named)
    assert "http" not in index + (STATIC / "app.css").read_text()
    assert "openseadragon" in (STATIC / "LICENSES.txt").read_text()


def test_no_source_writes_markup_from_text():
    sources = [p for p in (WEB / "src").rglob("*") if p.suffix in (".ts", ".tsx")]
    assert len(sources) > 10
    for path in sources:
        text = path.read_text()
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name
        assert text.count("\n") <= 400, path.name


@pytest.mark.slow
def test_the_built_page_is_the_build_of_its_sources(tmp_path):
    if not (WEB / "node_modules").is_dir() or shutil.which("node") is None:
        pytest.skip("needs node and `npm ci` in web/")
    subprocess.run(["node", "build.mjs", str(tmp_path / "static")], cwd=WEB, check=True, timeout=300)
    made = {p.name: p.read_bytes() for p in (tmp_path / "static").iterdir()}
    assert made == {p.name: p.read_bytes() for p in STATIC.iterdir()}
