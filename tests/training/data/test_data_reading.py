"""Files as people write them, and every fault with its place."""

import io
import json
import struct
import tarfile
from pathlib import Path

import pytest
from data_fakes import TEXT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.reading import read_records
from hwsi.training.data.records import ConversationRecord, PairRecord, PreferenceRecord, ReportRecord
from hwsi.training.data.writing import write_records

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 24


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def faults(reading) -> list[tuple[str, int, str]]:
    return [(p.kind, p.line, p.field) for p in reading.problems]


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_is_read_however_it_was_saved(tmp_path, delimiter, encoding, newline):
    lines = ["slide_id", "patient", "report"], ["a.svs", "p", '"Two, lines;' + newline + 'of | ""tumour"".\t."']
    text = newline.join(delimiter.join(cells) for cells in lines) + newline
    found = read_records(ReportRecord, write(tmp_path, "r.csv", text.encode(encoding)))
    assert not found.problems
    assert found.records[0].report.replace("\r", "") == 'Two, lines;\nof | "tumour".\t.'
    assert (found.records[0].slide, found.places) == ("a", ((str(tmp_path / "r.csv"), 2),))


def test_each_fault_of_a_table_is_told_with_its_line_and_field(tmp_path):
    table = 'slide,report,captoin\na,"first\nreport",x\n,no slide,\nb,,\nc,too,many,cells\n\na,once more,\nd,fine,\n'
    found = read_records(ReportRecord, write(tmp_path, "r.csv", table))
    assert [r.slide for r in found.records] == ["a", "d"]
    assert faults(found) == [
        ("empty_text", 4, "slide"), ("empty_text", 5, "report"), ("bad_row", 6, ""), ("duplicate", 8, ""),
    ]  # fmt: skip
    assert found.total == 6
    assert found.ignored == {"captoin": 5}, "a misspelt field is told"


def test_a_table_without_a_column_says_so_for_every_row(tmp_path):
    found = read_records(ReportRecord, write(tmp_path, "r.csv", "slide,text\na,b\nc,d\n"))
    assert faults(found) == [("missing_field", 2, "report"), ("missing_field", 3, "report")]


@pytest.mark.parametrize(
    ("content", "kind", "sound"),
    [
        (b"slide,report\na,fine\nb,\xff\xfe\n", "unreadable", None),
        (b'slide,report\na,fine\nb,"never closed\n', "unreadable", 1),
        (b"slide,report,slide\na,fine,b\n", "bad_header", 0),
        (b"", "bad_header", 0),
    ],
)
def test_a_table_that_breaks_off_is_told(tmp_path, content, kind, sound):
    found = read_records(ReportRecord, write(tmp_path, "r.csv", content))
    assert [p.kind for p in found.problems] == [kind]
    assert sound is None or len(found.records) == sound


# --- JSON -----------------------------------------------------------------------------------------


def test_each_fault_of_json_lines_is_told_and_the_others_are_read(tmp_path):
    good = json.dumps({"slide": "a", "report": "fine"})
    lines = [
        good.encode(), b"", b"{", b"[1]", b'{"slide": "b", "report": "x", "report": "y"}', b'{"slide": NaN}',
        b'{"slide": "\xff"}', b'{"slide": 3, "report": null}', b'{"slide": "\\ud800", "report": "x"}', b"[" * 100_000,
        good.replace("a", "z", 1).replace("szlide", "slide").encode(),
    ]  # fmt: skip
    found = read_records(ReportRecord, write(tmp_path, "r.jsonl", b"\n".join(lines)))
    assert [r.report for r in found.records][:1] == ["fine"]
    assert faults(found)[:6] == [
        ("not_json", 3, ""), ("not_an_object", 4, ""), ("duplicate_field", 5, "report"), ("not_json", 6, ""),
        ("not_json", 7, ""), ("wrong_type", 8, "slide"),
    ]  # fmt: skip
    assert ("missing_field", 8, "report") in faults(found)
    assert ("odd_character", 9, "slide") in faults(found)
    assert ("not_json", 10, "") in faults(found)


def test_a_list_counts_its_members_and_a_broken_one_names_its_line(tmp_path):
    rows = [{"slide": "a", "report": "x"}, 5, {"slide": "b"}]
    found = read_records(ReportRecord, write(tmp_path, "r.json", "﻿" + json.dumps(rows)))
    assert faults(found) == [("not_an_object", 2, ""), ("missing_field", 3, "report")]
    assert len(found.records) == 1
    broken = read_records(ReportRecord, write(tmp_path, "s.json", "[\n{},\n{,}]"))
    assert faults(broken) == [("not_json", 3, "")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["csv", "json", "jsonl", "tar"]))
def test_no_bytes_whatever_end_in_a_traceback(tmp_path, content, ending):
    found = read_records(ReportRecord, write(tmp_path, f"r.{ending}", content))
    assert len(found.records) == len(found.places) <= found.total


TEXTS = (
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)
    .map(str.strip)
    .filter(lambda t: t and "<" not in t)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5, unique_by=lambda t: t[0]))
def test_what_is_written_is_read_back(tmp_path, texts):
    said = [
        PreferenceRecord(slide=f"s{i}", question=q, chosen=a + ".", rejected=b + "!", patient=f"p{i}", split="val")
        for i, (q, a, b) in enumerate(texts)
    ]
    write_records(tmp_path / "p.jsonl", said)
    found = read_records(PreferenceRecord, tmp_path / "p.jsonl")
    assert (list(found.records), found.problems) == (said, ())


# --- conversations --------------------------------------------------------------------------------


def llava(*said: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]


ASKED = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A tumour."}]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "slide": "a", "turns": ASKED},
        {"id": "1", "slide": "a", "messages": ASKED},
        {
            "id": "1", "image": "x/a.pt",
            "conversations": llava("<image>\nWhat is it?", "A tumour."),
        },
        {
            "id": "1", "image": ["a.csv"],
            "conversations": llava("What is it?\n<image>", "A tumour."),
        },
        {"question_id": "1", "image": "x/a.pt", "question": "What is it?", "T-answer": "A tumour.", "metadata": "VQA"},
        {"id": "1", "slide": "a", "question": "What is it?", "answer": "A tumour."},
    ],
)  # fmt: skip
def test_all_forms_of_a_conversation_say_the_same(tmp_path, row):
    found = read_records(ConversationRecord, write(tmp_path, "c.json", json.dumps([row])))
    assert not found.problems
    assert not found.ignored
    (record,) = found.records
    assert (record.id, record.slide, record.messages()) == ("1", "a", ASKED)
    assert record.task == row.get("metadata", "")


def test_many_turns_stay_together_and_a_second_mark_is_refused(tmp_path):
    row = {"image": "a", "conversations": llava("<image>One?", "1", "Two?", "2")}
    (record,) = read_records(ConversationRecord, write(tmp_path, "c.json", json.dumps([row]))).records
    assert [t.content for t in record.turns] == ["One?", "1", "Two?", "2"]
    row["conversations"][2]["value"] = "<image>Two?"
    found = read_records(ConversationRecord, write(tmp_path, "c.json", json.dumps([row])))
    assert faults(found) == [("special_token", 1, "turns[2].content")]


def test_ids_are_unique_in_a_file_and_no_words_come_twice_at_all(tmp_path):
    def row(name, answer):
        return {"id": name, "slide": "a", "question": "?", "answer": answer}

    one = write(tmp_path, "one.json", json.dumps([row("1", "x"), row("1", "y"), row("2", "x")]))
    two = write(tmp_path, "two.json", json.dumps([row("1", "z"), row("5", "x")]))
    found = read_records(ConversationRecord, [one, two])
    assert faults(found) == [("duplicate_id", 2, "id"), ("duplicate", 3, ""), ("duplicate", 2, "")]
    assert len(found.records) == 2


@pytest.mark.skipif(not TEXT.is_dir(), reason=f"no texts at {TEXT}")
def test_the_real_files_are_read_whole():
    files = [TEXT / "slidechat_train_example.json", *sorted((TEXT / "wsi-bench").glob("*.json"))]
    found = read_records(ConversationRecord, files)
    raw = sum(len(json.loads(path.read_text(encoding="utf-8"))) for path in files)
    assert (len(found.records), found.total, found.problems) == (raw, raw, ())
    assert not any("<image>" in t.content for r in found.records for t in r.turns)
    assert {r.slide[:5] for r in found.records} == {"TCGA-"}
    flat = read_records(ConversationRecord, TEXT / "wsi-bench" / "WSI-Bench-test.jsonl")
    assert (len(flat.records), flat.problems) == (2838, ())
    assert len({r.slide for r in flat.records}) == 527


# --- images ---------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes], **changes: object) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_webdataset_is_read_in_place(tmp_path):
    path = shard(
        tmp_path / "a.tar",
        {
            "x/1.png": PNG + b"one", "x/1.txt": b"a gland", "x/1.json": b'{"group": "p", "split": "val"}',
            "x/2.JPG": b"\xff\xd8\xff two", "x/2.json": b'{"caption": "stroma"}', "x/2.cls": b"3",
        },
    )  # fmt: skip
    before = sorted(tmp_path.iterdir())
    found = read_records(PairRecord, path)
    assert not found.problems
    assert [(r.caption, r.group, r.split) for r in found.records] == [("a gland", "p", "val"), ("stroma", "", None)]
    assert [r.read() for r in found.records] == [PNG + b"one", b"\xff\xd8\xff two"]
    assert found.ignored == {".cls": 1}
    assert sorted(tmp_path.iterdir()) == before, "nothing is extracted"


@pytest.mark.parametrize("name", ["/etc/1.png", "../1.png", "a/../../1.png"])
def test_a_member_that_leaves_its_folder_is_refused(tmp_path, name):
    found = read_records(PairRecord, shard(tmp_path / "a.tar", {name: PNG, "b.png": PNG, "b.txt": b"fine"}))
    assert [p.kind for p in found.problems] == ["unsafe_name"]
    assert [r.caption for r in found.records] == ["fine"]


def test_links_second_images_and_what_is_cut_short_are_told(tmp_path):
    link = shard(tmp_path / "link.tar", {"a.png": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd")
    assert [p.kind for p in read_records(PairRecord, link).problems] == ["unsafe_name"]
    both = shard(tmp_path / "both.tar", {"a.png": PNG, "a.jpg": PNG, "a.txt": b"x"})
    assert [p.kind for p in read_records(PairRecord, both).problems] == ["several_images"]
    whole = shard(tmp_path / "cut.tar", {"a.txt": b"x", "a.png": PNG * 400}).read_bytes()
    cut = read_records(PairRecord, write(tmp_path, "cut.tar", whole[:3000]))
    assert [p.kind for p in cut.problems] == ["unreadable"]
    assert not cut.records


def test_images_of_a_table_lie_beside_it_and_are_there(tmp_path):
    (tmp_path / "im").mkdir()
    write(tmp_path / "im", "a.png", PNG)
    write(tmp_path / "im", "b.png", struct.pack("<8d", *range(8)))
    table = "image,caption\nim/a.png,a gland\nim/b.png,no image\nim/c.png,not there\n,none\n"
    found = read_records(PairRecord, write(tmp_path, "p.csv", table))
    assert [r.read() for r in found.records] == [PNG]
    assert [p.kind for p in found.problems] == ["not_an_image", "image_missing", "missing_field"]


def test_parquet_is_read_or_asks_for_its_library(tmp_path):
    path = write(tmp_path, "p.parquet", b"PAR1")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        with pytest.raises(HwsiError) as caught:
            read_records(PairRecord, path)
        assert caught.value.reason is Reason.EXTRA_MISSING
        return
    assert [p.kind for p in read_records(PairRecord, path).problems] == ["unreadable"]
    rows = [{"image": {"bytes": PNG, "path": None}, "caption": "a gland"}, {"image": None, "caption": "none"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read_records(PairRecord, path)
    assert [r.read() for r in found.records] == [PNG]
    assert faults(found) == [("missing_field", 2, "image")]


def test_a_file_that_is_not_there_or_of_another_kind_is_an_error(tmp_path):
    for name, reason in (("none.csv", Reason.DATA_MISSING), ("a.xlsx", Reason.DATA_INVALID)):
        if name == "a.xlsx":
            write(tmp_path, name, b"x")
        with pytest.raises(HwsiError) as caught:
            read_records(ReportRecord, tmp_path / name)
        assert caught.value.reason is reason
