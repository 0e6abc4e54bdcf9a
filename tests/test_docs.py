"""The documentation holds: links lead somewhere, commands exist, blocks run, the site loads nothing from elsewhere."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "generate"))

from blocks import TESTED_APART, Block, blocks, written_pages  # noqa: E402
from cli_page import walk  # noqa: E402
from pages import pages  # noqa: E402

WRITTEN = [ROOT / "README.md", *written_pages()]
RUNNABLE = [p for p in written_pages() if any(b.mark == "run" for b in blocks(p))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


@pytest.fixture(scope="module")
def verbs() -> dict[str, Any]:
    return dict(walk())


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_links_and_pictures_lead_somewhere(path: Path, made: dict[str, str]) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    there = {(DOCS / page).resolve() for page in made}
    lost = []
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
        if not re.match(r"https?://", target):
            place = (path.parent / target).resolve()
            if not (place.exists() or place in there):
                lost.append(target)
    assert lost == []


def test_links_of_made_pages_lead_somewhere(made: dict[str, str]) -> None:
    there = {(DOCS / page).resolve() for page in made}
    lost = []
    for page, text in made.items():
        for target in re.findall(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)", text):
            place = (DOCS / page).parent.joinpath(target).resolve()
            if not (place.exists() or place in there):
                lost.append((page, target))
    assert lost == []


def programs(path: Path) -> list[Block]:
    return [block for block in blocks(path) if block.is_program]


@pytest.mark.parametrize("path", written_pages(), ids=name)
def test_every_block_says_whether_it_runs(path: Path) -> None:
    if path.relative_to(DOCS).as_posix() in TESTED_APART:
        return
    silent = [block.text for block in programs(path) if not block.mark or (block.mark != "run" and not block.why)]
    assert silent == [], "put <!-- run -->, <!-- needs: ... --> or <!-- shown: ... --> above the fence"


def calls(text: str) -> list[list[str]]:
    """The words behind ``hwsi`` of each command of a shell block."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        cut = next((n for n, word in enumerate(words) if word and set(word) <= set("|&;<>")), len(words))
        words = words[:cut]
        module = [n for n, pair in enumerate(pairwise(words), 2) if pair == ("-m", "hwsi")]
        if module:  # python, torchrun or accelerate
            found.append(words[module[0] :])
        elif "hwsi" in words and all("=" in word for word in words[: words.index("hwsi")]):
            found.append(words[words.index("hwsi") + 1 :])
    return found


def verb_of(words: list[str], verbs: dict[str, Any]) -> tuple[str, list[str]]:
    """(its full name, what is handed to it). Raises LookupError."""
    for length in (2, 1):
        full = " ".join(["hwsi", *words[:length]])
        if full in verbs:
            return full, words[length:]
    raise LookupError(" ".join(words))


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_commands_are_such_as_the_program_knows(path: Path, verbs: dict[str, Any]) -> None:
    """Each is parsed as it would be if it were typed; nothing is run."""
    wrong = []
    for block in blocks(path):
        if block.language not in ("bash", "sh"):
            continue
        for words in calls(block.text):
            if words in (["--version"], ["--help"]) or "..." in words:
                continue
            try:
                full, rest = verb_of(words, verbs)
                verbs[full].make_context(full, list(rest))
            except Exception as error:
                wrong.append(f"hwsi {' '.join(words)}: {error}")
    assert wrong == []


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_options_named_in_passing_exist(path: Path, verbs: dict[str, Any]) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    every = {option for command in verbs.values() for p in command.params for option in (*p.opts, *p.secondary_opts)}
    every |= {"--help", "--version"}
    others = {"--enable-prompt-embeds", "--dtype", "--api-key", "--set"}  # of other programs
    groups = {full.rpartition(" ")[0] for full in verbs}
    wrong = []
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text):
        words = code.split()
        if words[0] == "hwsi" and len(words) > 1 and re.fullmatch(r"[a-z][a-z0-9-]+", words[1]):
            known = any(" ".join(words[:n]) in verbs or " ".join(words[:n]) in groups for n in (2, 3))
            wrong += [] if known else [code]
        options = [word.split("=")[0] for word in words if re.match(r"--[a-z]", word)]
        wrong += [option for option in options if words[0] in ("hwsi", option) and option not in every | others]
    assert wrong == []


def test_every_reason_and_every_preset_is_explained(made: dict[str, str]) -> None:
    from hwsi.errors import Reason
    from hwsi.presets import available

    troubles = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert [r.value for r in Reason if f"`{r.value}`" not in troubles] == []
    assert [r.value for r in Reason if f"### {r.value}\n" not in made["reference/reasons.md"]] == []
    told = set(re.findall(r"\| `([a-z_]+)`(?:, `([a-z_]+)`)? \|", troubles))
    codes = {code for pair in told for code in pair if code}
    assert codes <= {r.value for r in Reason} | {"usage"}
    assert [preset for preset in available() if f"## {preset}\n" not in made["reference/presets.md"]] == []
    cards = {path.stem for path in (DOCS / "models").glob("*.md")} | {Path(page).stem for page in made}
    assert set(available()) <= cards


def test_every_verb_has_a_section_with_its_options(made: dict[str, str], verbs: dict[str, Any]) -> None:
    for full, command in verbs.items():
        _, _, section = made["reference/cli.md"].partition(f"\n## {full} {{")
        section = section.partition("\n## ")[0]
        assert all(
            f"`{option}`" in section for p in command.params if p.param_type_name == "option" for option in p.opts
        )


def test_results_are_gathered_from_where_they_are_kept(made: dict[str, str]) -> None:
    card = (ROOT / "src/hwsi/weights/nano/README.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in re.findall(r"^\| .*(?:`python benchmarks/|`hwsi bench).*$", readme, re.MULTILINE):
        assert row in made["results.md"]
    row = re.search(r"^\| all \|.*$", card, re.MULTILINE)
    assert row is not None
    assert row[0] in made["results.md"]


@pytest.mark.parametrize("path", sorted((DOCS / "pictures").glob("*.svg")), ids=name)
def test_drawings_are_made_by_code_and_load_nothing(path: Path) -> None:
    assert f'"{path.stem}"' in (DOCS / "drawings" / "draw.py").read_text(encoding="utf-8")
    for node in ET.parse(path).iter():
        for key, value in node.attrib.items():
            if key.rpartition("}")[2] == "href":
                assert value.startswith("data:image/")


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: a small slide, a folder of slides, reports, a job where it is encoded."""
    from hwsi.encoding import encode_to_file
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import Spec

    folder = tmp_path_factory.mktemp("newcomer")
    spec = Spec(seed=11, diagnosis="invasive ductal carcinoma", width_um=768, height_um=768)
    write_phantom(folder / "slide.svs", spec)
    (folder / "slides").mkdir()
    shutil.copy(folder / "slide.svs", folder / "slides")
    texts = ("Invasive ductal carcinoma of the breast.", "Adenocarcinoma of the colon.")
    lines = [json.dumps({"slide": f"slide{n or ''}", "report": text}) for n, text in enumerate(texts)]
    (folder / "reports.jsonl").write_text("\n".join(lines), encoding="utf-8")
    encode_to_file(folder / "slide.svs", folder / "job")
    (folder / "JOB").symlink_to("job")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_blocks_run_in_order(path: Path, newcomer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    shutil.copytree(newcomer, folder, symlinks=True)
    with_us = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": with_us, "HF_HUB_OFFLINE": "1", "HWSI_WEIGHTS": str(tmp_path / "none.yaml")}
    for block in blocks(path):
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        if block.mark != "run":
            continue
        call = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*call, block.text], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


class Loads(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {key: value or "" for key, value in attrs}
        self.classes |= set(told.get("class", "").split())
        if tag == "link" and told.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(told.get("href", ""))
        elif tag not in ("a", "link"):
            self.found += [told[key] for key in ("src", "data", "href") if key in told]


@pytest.mark.slow
def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)], cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    outside = re.compile(r"(?:https?:)?//")
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert [url for url in loads.found if outside.match(url)] == [], page.relative_to(site)
        assert "mermaid" not in loads.classes, "the theme would fetch its library from a CDN"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", text), sheet.relative_to(site)
    assert not list(site.rglob("*.py"))
