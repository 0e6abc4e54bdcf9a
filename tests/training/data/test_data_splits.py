"""Nobody stands on both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import PairRecord, ReportRecord
from hwsi.training.data.splits import assign_patients, require_disjoint, split_of, split_records


def report(slide, patient="", text=None, split=None):
    return ReportRecord(slide=slide, patient=patient, report=text or f"report of {slide}", split=split)


def reason(call) -> tuple[Reason, str]:
    with pytest.raises(HwsiError) as caught:
        call()
    return caught.value.reason, str(caught.value)


NAMES = st.lists(st.text(min_size=1, max_size=8).map(str.strip).filter(bool), min_size=1, max_size=40, unique=True)


@given(NAMES, st.integers(0, 5))
def test_a_patient_stays_in_its_split_whoever_else_comes(patients, seed):
    split = {p: split_of(p, (0.5, 0.3, 0.2), seed=seed) for p in patients}
    records = [report(f"s{i}-{k}", p) for i, p in enumerate(patients) for k in range(2)]
    found = split_records(records, fractions=(0.5, 0.3, 0.2), seed=seed)
    assert sorted(r.slide for rows in found.values() for r in rows) == sorted(r.slide for r in records)
    assert all(split[r.patient] == name for name, rows in found.items() for r in rows)
    require_disjoint(found)


def test_fractions_are_kept_and_another_seed_splits_otherwise():
    names = [f"patient {i}" for i in range(4000)]
    found = [split_of(n, (0.7, 0.2, 0.1)) for n in names]
    for split, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert found.count(split) / len(names) == pytest.approx(share, abs=0.03)
    assert sum(split_of(n, (0.7, 0.2, 0.1), seed=1) == f for n, f in zip(names, found, strict=True)) < 3000
    assert {split_of(n, (1, 0, 0)) for n in names} == {"train"}
    assert {split_of(n, (0.5, 0.5, 0)) for n in names} == {"train", "val"}
    assert {split_of(n, (0.5, 0, 0.5)) for n in names} == {"train", "test"}
    for wrong in ((0.5, 0.4, 0.2), (1.1, -0.1, 0), (1, 0)):
        assert reason(lambda wrong=wrong: split_of("p", wrong))[0] is Reason.OPTION_INVALID


def test_the_data_s_own_split_is_used_unless_it_is_half_a_split():
    records = [report("a", "p", split="val"), report("b", "q", split="train")]
    assert [[r.slide for r in rows] for rows in split_records(records).values()] == [["b"], ["a"], []]
    assert reason(lambda: split_records([*records, report("c", "r")]))[0] is Reason.DATA_INVALID
    assert reason(lambda: split_records([report("c")]))[0] is Reason.DATA_INVALID


def test_every_overlap_is_an_error_that_shows_who():
    train, val = [report("a", "p"), report("b", "p")], [report("c", "q")]
    require_disjoint({"train": train, "val": val})
    told = reason(lambda: require_disjoint({"train": train, "val": [report("d", "p")]}))
    assert told[0] is Reason.SPLITS_OVERLAP
    assert "1 patients" in told[1]
    assert "p (train), p (val)" in told[1]
    same = [report("e", "r", "Report of  B")]
    assert "reports with the same words" in reason(lambda: require_disjoint({"train": train, "test": same}))[1]
    require_disjoint({"train": train, "test": same}, texts=False)
    assert reason(lambda: require_disjoint({"train": train, "val": [report("a", "q")]}))[0] is Reason.DATA_INVALID
    pairs = [PairRecord(image=b"x", caption="y", group="g")]
    assert "1 groups" in reason(lambda: require_disjoint({"train": pairs, "val": pairs}))[1]


def test_a_copy_of_a_slide_under_another_name_is_found_by_its_content(tmp_path):
    from data_fakes import made_features, write_job

    from hwsi.training.data.store import FeatureStore

    slides = {"a": made_features(1, name="a"), "copy": made_features(1, name="copy"), "b": made_features(2, name="b")}
    store = FeatureStore([write_job(tmp_path, slides)])
    splits = {"train": [report("a", "p")], "val": [report("copy", "q")]}
    require_disjoint(splits)
    assert "the same content" in reason(lambda: require_disjoint(splits, store=store))[1]
    require_disjoint({"train": [report("a", "p")], "val": [report("b", "q")]}, store=store)


def test_patients_come_from_a_table_or_a_barcode_and_are_never_guessed(tmp_path):
    tcga = "TCGA-21-1083-01Z-00-DX1.8288ca92"
    assert [r.patient for r in assign_patients([report(tcga), report("x", "own")], "tcga")] == ["TCGA-21-1083", "own"]
    assert reason(lambda: assign_patients([report("TCGA-21-1083")], "tcga"))[0] is Reason.DATA_INVALID
    table = tmp_path / "p.csv"
    table.write_text("﻿slide,patient\na,p1\nb,\n")
    assert assign_patients([report("a")], table)[0].patient == "p1"
    assert reason(lambda: assign_patients([report("b")], table))[0] is Reason.DATA_INVALID
    assert reason(lambda: assign_patients([report("a")], tmp_path / "no.csv"))[0] is Reason.DATA_MISSING
    table.write_text("image,who\na,p1\n")
    assert reason(lambda: assign_patients([report("a")], table))[0] is Reason.DATA_INVALID
