"""Records against the features they speak of and the model that reads them: all faults told, before the first step."""

import csv
import json

import pytest
from data_fakes import SIZES, made_features, write_job

from hwsi.errors import HwsiError, Reason
from hwsi.training.data import store as store_module
from hwsi.training.data.checking import load_records
from hwsi.training.data.records import ConversationRecord, PreferenceRecord, ReportRecord
from hwsi.training.data.store import FeatureStore


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_sound_records_come_as_they_are_and_no_table_is_read(tmp_path, job, nano, monkeypatch):
    monkeypatch.setattr(store_module, "read_features", lambda *a, **k: pytest.fail("a slide was read"))
    rows = [{"slide": s, "report": f"Report of {s}.", "who": 1} for s in ("small", "middle")]
    found = load_records(ReportRecord, write(tmp_path / "r.jsonl", rows), store=FeatureStore([job]), processor=nano[1])
    assert [r.slide for r in found.records] == ["small", "middle"]
    assert found.told == ("field 'who' of 2 records is not read",)


def bad_rows():
    return [
        {"slide": "small", "report": "Fine."},
        {"slide": "gone", "report": "No such slide."},
        {"slide": "broken", "report": "Its file is damaged."},
        {"slide": "twice", "report": "Two files."},
        {"slide": "other", "report": "Another preset."},
        {"slide": "small", "report": "", "lang": "de"},
        {"slide": "middle", "report": "spells <|user|> so"},
        {"slide": "large", "report": "word " * 3900},
    ]


@pytest.fixture
def bad_job(tmp_path):
    slides = {n: made_features(i, name=n, rows=r, cols=c) for i, (n, (r, c)) in enumerate(SIZES.items())}
    other = made_features(8, name="other", preset="paper")
    slides["other"] = type(other)(**{**vars(other), "region": {"hipt": other.region["region-nano"][:, :7]}})
    slides["twice"] = made_features(9, name="twice")
    folder = write_job(tmp_path / "job", slides)
    write_job(tmp_path / "more", {"twice": made_features(10, name="twice")})
    (folder / "features" / "broken.h5").write_bytes(b"none")
    return [folder, tmp_path / "more"]


KINDS = {
    2: "features_missing", 3: "features_corrupt", 4: "features_mismatch", 5: "features_mismatch", 6: "empty_text",
    7: "special_token", 8: "too_long",
}  # fmt: skip


def test_all_faults_are_listed_and_none_is_dropped_in_silence(tmp_path, bad_job, nano):
    path, listing = write(tmp_path / "r.jsonl", bad_rows()), tmp_path / "problems.csv"
    store = FeatureStore(bad_job)
    with pytest.raises(HwsiError) as caught:
        load_records(ReportRecord, path, store=store, processor=nano[1], listing=listing)
    assert caught.value.reason is Reason.DATA_INVALID
    told = str(caught.value)
    assert "\n" not in told
    assert "7 of 8 records" in told
    assert "2 features_mismatch" in told
    assert str(listing) in told
    with listing.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["line"]): row["kind"] for row in rows} == KINDS
    assert "preset 'paper'" in next(row["what"] for row in rows if row["line"] == "5")

    found = load_records(ReportRecord, path, store=store, processor=nano[1], skip_bad=True)
    assert [r.slide for r in found.records] == ["small"]
    assert found.told[0].startswith("left out: 7 of 8 records")


def test_the_encoders_that_are_needed_can_be_named_without_a_model(tmp_path, job):
    path = write(tmp_path / "r.jsonl", [{"slide": "small", "report": "Fine."}])
    store = FeatureStore([job])
    assert load_records(ReportRecord, path, store=store, needs={"patch": "patch-nano"}).records
    with pytest.raises(HwsiError, match="no patch encoder 'conch'"):
        load_records(ReportRecord, path, store=store, needs={"patch": "conch"})


def test_what_fits_by_a_count_is_not_refused_by_an_estimate(tmp_path, job, nano):
    processor = nano[1]
    store = FeatureStore([job])
    exact = len(processor.prefix(store.get("large")))
    room = processor.tokenizer.model_max_length
    text = "words " * 40
    words = len(processor.tokenizer(text)["input_ids"])
    rows = [{"slide": "large", "question": "Which?", "answer": text}]
    path = write(tmp_path / "c.jsonl", rows)
    try:
        processor.tokenizer.model_max_length = exact + words + 30
        assert load_records(ConversationRecord, path, store=store, processor=processor).records
        processor.tokenizer.model_max_length = exact + words - 5
        with pytest.raises(HwsiError, match="too_long"):
            load_records(ConversationRecord, path, store=store, processor=processor)
    finally:
        processor.tokenizer.model_max_length = room


def test_preferences_are_checked_with_their_options(tmp_path, job, nano):
    rows = [
        {"slide": "small", "question": "Which?", "choices": ["yes", "no"], "chosen": "yes", "rejected": "no"},
        {"slide": "small", "question": "Which?", "choices": ["yes", "yes"], "chosen": "yes", "rejected": "no"},
    ]
    path = write(tmp_path / "p.jsonl", rows)
    found = load_records(PreferenceRecord, path, store=FeatureStore([job]), processor=nano[1], skip_bad=True)
    assert len(found.records) == 1
    assert "1 bad_choices" in found.told[0]


def test_a_file_without_records_is_an_error_even_if_bad_ones_may_be_skipped(tmp_path):
    path = write(tmp_path / "r.jsonl", [{"slide": "a"}])
    for content in (path.read_text(), ""):
        path.write_text(content)
        with pytest.raises(HwsiError) as caught:
            load_records(ReportRecord, path, skip_bad=True)
        assert caught.value.reason is Reason.DATA_INVALID
        assert "no_records" in str(caught.value)
