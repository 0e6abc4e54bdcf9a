"""Every example of the documentation is read without a fault."""

import re
from pathlib import Path

import pytest

from hwsi.training.data.reading import read_records
from hwsi.training.data.records import ConversationRecord, PairRecord, PreferenceRecord, ReportRecord
from hwsi.training.data.store import _read_map

DOCS = Path(__file__).resolve().parents[3] / "docs" / "training-data.md"
SRC = Path(__file__).resolve().parents[3] / "src" / "hwsi" / "training" / "data"
KINDS = {
    "report": ReportRecord, "conversation": ConversationRecord, "preference": PreferenceRecord, "pair": PairRecord
}  # fmt: skip
EXAMPLES = re.findall(r"```(\w+) (\w+)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("ending", "kind", "text"), EXAMPLES, ids=[f"{k}-{i}" for i, (_, k, _) in enumerate(EXAMPLES)])
def test_an_example_is_read_whole(tmp_path, ending, kind, text):
    path = tmp_path / f"example.{ending}"
    path.write_text(text, encoding="utf-8")
    if kind == "map":
        assert _read_map(path)
        return
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "0001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = read_records(KINDS[kind], path)
    assert found.records
    assert (found.problems, dict(found.ignored)) == ((), {})


def test_every_kind_of_record_and_of_problem_is_documented():
    assert {kind for _, kind, _ in EXAMPLES} == {*KINDS, "map"}
    text = DOCS.read_text(encoding="utf-8")
    code = "".join(p.read_text(encoding="utf-8") for p in SRC.glob("*.py"))
    named = set(re.findall(r'(?:Problem|PydanticCustomError|problem)\(\s*"(\w+)"', code))
    named |= set(re.findall(r'\(?"((?:image|duplicate|not|features|special|too|no)_\w+)", "', code))
    assert len(named) > 15
    assert not {kind for kind in named if f"`{kind}`" not in text}
