"""Rows of the stages: what is learned, what is not, and that nobody's row depends on another's."""

import copy
import dataclasses
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from data_fakes import made_features, write_job

from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.labels import patch_label
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.rows import IGNORE
from hwsi.training.data import rows as rows_module
from hwsi.training.data.augment import Augmentation, View, draw_view, words_of
from hwsi.training.data.records import ConversationRecord, PreferenceRecord, ReportRecord
from hwsi.training.data.rows import (
    STAYS,
    AlignRows,
    Asked,
    Collate,
    ConversationRows,
    PreferenceRows,
    ReportRows,
    SlideRows,
)
from hwsi.training.data.store import FeatureStore
from hwsi.training.nano.symmetry import turn_features, turn_quarter

SLIDES = ("small", "middle", "large")
REPORTS = [
    ReportRecord(slide=s, patient=s, report=f"R1 shows {s} tumour.", caption="A tumour." * (s != "small"))
    for s in SLIDES
]


def talk(slide, *said, system=None):
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    head = [{"role": "system", "content": system}] if system else []
    return ConversationRecord(slide=slide, turns=head + turns)


def learned(processor, row) -> list[str]:
    """What the labels of a row spell, one text for each stretch of them."""
    labels = row["labels"].tolist()
    found, here = [], []
    for label in [*labels, IGNORE]:
        if label != IGNORE:
            here.append(label)
        elif here:
            found.append(processor.tokenizer.decode(here))
            here = []
    return found


def test_a_report_row_asks_as_at_inference_and_learns_the_answers_alone(store, nano):
    _, processor = nano
    rows = ReportRows(REPORTS, store, processor)
    end = processor.tokenizer.eos_token
    assert learned(processor, rows[0]) == [f"R1 shows small tumour.{end}"]
    assert learned(processor, rows[2]) == [f"R1 shows large tumour.{end}", f"A tumour.{end}"]
    text = processor.tokenizer.decode(rows[2]["input_ids"])
    assert REPORT_PROMPT in text
    assert CAPTION_PROMPT in text
    # what stands before the report is what the model reads when it is asked for one
    asked = processor(REPORT_PROMPT, slides=store.get("small"))["input_ids"][0].tolist()
    assert rows[0]["input_ids"][: len(asked)].tolist() == asked


def test_a_conversation_is_learned_whole_every_answer_and_nothing_else(store, nano):
    _, processor = nano
    said = ("What is R1?", "It is tumour.", "Is it invasive?", "yes", "Sure?", "no.")
    (row,) = ConversationRows([talk("middle", *said)], store, processor)
    end = processor.tokenizer.eos_token
    assert learned(processor, row) == [f"{a}{end}" for a in said[1::2]]
    text = processor.tokenizer.decode(row["input_ids"])
    assert all(text.index(a) < text.index(b) for a, b in pairwise(said))
    assert set(row["segment_ids"].tolist()) == {0, 1}, "later turns see the former ones"


def test_conversations_about_a_slide_share_a_row_but_not_a_segment(store, nano):
    _, processor = nano
    records = [talk(s, f"Question {i}?", f"answer {i}") for i in range(3) for s in SLIDES]
    records.append(talk("small", "Under another system?", "yes", system="Be brief."))
    rows = ConversationRows(records, store, processor, per_row=2)
    assert [len(a.dialogues) for a in rows.asked] == [2, 1, 2, 1, 2, 1, 1]
    everything = [a for i in range(len(rows)) for a in learned(processor, rows[i])]
    assert len(everything) == len(records)
    assert rows[0]["segment_ids"].max() == 2
    assert "Be brief." in processor.tokenizer.decode(rows[6]["input_ids"])


def test_the_two_rows_of_a_preference_differ_in_the_answer_alone(store, nano):
    _, processor = nano
    record = PreferenceRecord(slide="middle", question="Which?", choices=("yes", "no"), chosen="yes", rejected="no")
    how = Augmentation(turn=True, relevance=0.5, kept=(1, 2, 3), hide=True)
    rows = PreferenceRows([record] * 2, store, processor, augment=how)
    for epoch in range(6):
        item = rows[epoch, 1]
        chosen, rejected = item["chosen"], item["rejected"]
        before = int((chosen["labels"] != IGNORE).nonzero()[0])
        assert torch.equal(chosen["input_ids"][:before], rejected["input_ids"][:before])
        assert torch.equal(chosen["patch_features"], rejected["patch_features"])
        assert torch.equal(chosen[STAYS][:before], rejected[STAYS][:before])
        assert [learned(processor, r)[0][:2] for r in (chosen, rejected)] == ["ye", "no"]
    assert "Options: yes; no" in processor.tokenizer.decode(chosen["input_ids"])
    batch = Collate(processor)([rows[0], rows[1]])
    assert batch["input_ids"].shape[0] == 4
    width = len(rows[1]["rejected"]["input_ids"])
    assert torch.equal(batch["labels"][3][:width], rows[1]["rejected"]["labels"])
    assert torch.equal(batch["labels"][1][: len(rows[1]["chosen"]["labels"])], rows[1]["chosen"]["labels"])


def test_a_slide_reads_the_same_alone_and_among_others(store, nano):
    model, processor = nano
    model = copy.deepcopy(model).double()  # where rounding is far below what a neighbour could do
    rows = ReportRows(REPORTS, store, processor)
    collate = Collate(processor)

    def states(indices):
        batch = {k: v.double() if v.is_floating_point() else v for k, v in collate([rows[i] for i in indices]).items()}
        batch.pop("labels")
        with torch.no_grad():
            return model.model(**batch, use_cache=False).last_hidden_state

    alone = [states([i])[0] for i in range(3)]
    for order in ([0, 1, 2], [2, 0], [1, 1, 0], [2, 1]):
        for state, i in zip(states(order), order, strict=True):
            assert torch.allclose(state[: len(alone[i])], alone[i], atol=1e-6, rtol=0)
    assert (alone[0][:5] - alone[1][:5]).abs().max() > 1e-3, "and slides differ"


def test_a_view_follows_from_epoch_and_index_and_epochs_differ(store, nano):
    _, processor = nano
    how = Augmentation(turn=True, relevance=0.5, kept=(1, 2, 3), hide=True)

    def row(at, seed=0):
        return ReportRows(REPORTS, store, processor, augment=how, seed=seed)[at]

    def same(a, b):
        return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

    assert same(row((3, 2)), row((3, 2)))
    others = [row((e, 2)) for e in range(4)] + [row((3, 2), seed=1)]
    assert not all(same(row((3, 2)), other) for other in others)
    plain = ReportRows(REPORTS, store, processor)
    assert same(plain[5, 1], plain[1])
    sent = pickle.loads(pickle.dumps(ReportRows(REPORTS, store, processor, augment=how)))
    assert same(sent[3, 2], row((3, 2)))


def test_what_a_view_hides_no_word_sees(store, nano):
    _, processor = nano
    rows = ReportRows(REPORTS, store, processor, augment=Augmentation(hide=True))
    made = [rows[e, 1] for e in range(30)]
    assert any(not row[STAYS].all() for row in made)
    assert all(row[STAYS][row["labels"] != IGNORE].all() for row in made), "an answer is never hidden"
    batch = Collate(processor)([*made, rows[0, 2]])
    for mask, row in zip(batch["attention_mask"], made, strict=False):
        n = len(row[STAYS])
        assert torch.equal(mask[:n].bool(), row[STAYS])
        assert not mask[n:].any()
    assert STAYS not in batch


@pytest.mark.parametrize("code", range(8))
def test_words_follow_the_tissue_when_a_slide_is_turned(code):
    whole = made_features(3, rows=2, cols=3)
    view = View(turn_features(whole, code)[0], code)
    seen = view.features
    old, new = whole.hierarchy, seen.hierarchy

    def patch_of(tree, label, features):
        for n, (row, col) in enumerate(tree.patches.row_col.tolist()):
            if patch_label(int(tree.patches.region[n]), row, col, 4) == label:
                return features.patch["patch-nano"][n]
        raise AssertionError(label)

    for r in range(6):
        told = words_of(f"R{r + 1}, and R{r + 1}.P7; not R99 or ER2.", old, view)
        region, patch, rest = told.partition(",")[0], told.split()[2].rstrip(";"), told.split(";")[1]
        assert np.array_equal(seen.region["region-nano"][int(region[1:]) - 1], whole.region["region-nano"][r])
        assert np.array_equal(patch_of(new, patch, seen), patch_of(old, f"R{r + 1}.P7", whole))
        assert rest == " not R99 or ER2."
    assert words_of("It lies upper left.", old, view) == f"It lies {turn_quarter('upper left', code)}."
    assert words_of("unchanged R1 upper left", old, View(whole)) == "unchanged R1 upper left"


def test_a_large_slide_is_cut_as_at_inference(tmp_path, nano, monkeypatch):
    _, processor = nano
    store = FeatureStore([write_job(tmp_path, {"big": made_features(5, name="big", rows=6, cols=12)})])
    rows = ReportRows([ReportRecord(slide="big", report="Tumour.")], store, processor)
    assert rows[0]["region_features"].shape[0] == rows_module.MAX_REGIONS == 64
    assert len(rows[0]["input_ids"]) <= rows.costs[0]
    (item,) = AlignRows([ReportRecord(slide="big", report="Tumour.")], store, "region-nano", max_regions=5)
    assert len(item.features.hierarchy.regions) == 5


def test_costs_bound_the_tokens_and_order_the_slides(store, nano):
    _, processor = nano
    for rows in (
        ReportRows(REPORTS, store, processor),
        ConversationRows([talk(s, "How many?", "Many, " * 9) for s in SLIDES], store, processor),
    ):
        lengths = [len(rows[i]["input_ids"]) for i in range(3)]
        assert all(n <= cost for n, cost in zip(lengths, rows.costs, strict=True))
        assert np.array_equal(np.argsort(lengths), np.argsort(rows.costs))
    pairs = [PreferenceRecord(slide=s, question="Which?", chosen="yes", rejected="no") for s in SLIDES]
    both = PreferenceRows(pairs, store, processor)
    for i, cost in enumerate(both.costs):
        assert sum(len(row["input_ids"]) for row in both[i].values()) <= cost


def test_align_items_hold_features_words_and_who_says_the_same(store):
    records = [*REPORTS, ReportRecord(slide="small", report="r1  SHOWS large tumour.", patient="x")]
    rows = AlignRows(records, store, "region-nano", augment=Augmentation(turn=True, kept=(2,), relevance=1))
    items = [rows[1, i] for i in range(4)]
    assert [i.text_id for i in items] == rows.text_ids == [0, 1, 2, 2]
    assert [i.slide for i in items] == [*SLIDES, "small"]
    for item in items:
        assert item.kept == 2
        assert item.relevance.shape == (len(item.features.hierarchy.patches),)
    assert rows.costs == [16, 64, 96, 16]
    turned = {AlignRows(records, store, "region-nano", augment=Augmentation(turn=True))[e, 2].report for e in range(20)}
    assert len(turned) > 1, "the words follow the turned slide"
    with pytest.raises(HwsiError):
        AlignRows(records, store, "region-nano", augment=Augmentation(hide=True))


def test_a_plain_view_is_the_slide_itself():
    slide = made_features(0)
    assert draw_view(slide, Augmentation(), np.random.default_rng(0)) == View(slide)


# --- fusion: resample -----------------------------------------------------------------------------


@pytest.fixture
def resample(tiny_release, released_features, tmp_path):
    _, processor = tiny_release
    made = released_features(1)
    return processor, FeatureStore([write_job(tmp_path, {"a": dataclasses.replace(made, slide_name="a")})])


def test_one_question_is_the_processor_s_own_row(resample):
    processor, store = resample
    rows = ConversationRows([talk("a", "What is it?", "A tumour.")], store, processor)
    own = processor.encode(store.get("a"), "What is it?", answer="A tumour.")
    assert rows[0].keys() == own.keys()
    assert all(torch.equal(rows[0][name], own[name]) for name in own)


def test_many_turns_are_read_whole_by_the_released_kind_too(resample):
    processor, store = resample
    said = ("What is it?", "A tumour.", "Sure?", "yes")
    (row,) = ConversationRows([talk("a", *said, system="Be brief.")], store, processor)
    end = processor.tokenizer.eos_token
    assert learned(processor, row) == [f"A tumour.{end}", f"yes{end}"]
    roles = ("system", "user", "assistant", "user", "assistant")
    chat = [{"role": r, "content": c} for r, c in zip(roles, ("Be brief.", *said), strict=True)]
    whole = processor.tokenizer.apply_chat_template(chat, tokenize=False, chat_template=processor.chat_template)
    assert whole.removesuffix("\n") == processor.tokenizer.decode(row["input_ids"])


def test_a_tokenizer_s_own_first_token_stands_once(resample):
    from tokenizers.processors import TemplateProcessing

    processor, store = resample
    processor = copy.deepcopy(processor)
    begin = ("</s>", processor.tokenizer.eos_token_id)
    processor.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="</s> $A", special_tokens=[begin])
    row, longer = (ConversationRows([r], store, processor)[0] for r in (talk("a", "x", "y"), talk("a", *"xyuv")))
    assert torch.equal(row["input_ids"], processor.encode(store.get("a"), "x", answer="y")["input_ids"])
    assert longer["input_ids"][: len(row["input_ids"])].tolist() == row["input_ids"].tolist()
    ends = longer["input_ids"].tolist().count(begin[1])
    assert ends == 1 + 4 + bool(processor.system), "one at the beginning, one behind every message"


def test_reports_and_captions_of_the_released_kind_have_rows_of_their_own(resample):
    processor, store = resample
    rows = ReportRows([ReportRecord(slide="a", report="Long.", caption="Short.")], store, processor)
    end = processor.tokenizer.eos_token
    assert [learned(processor, rows[i]) for i in range(len(rows))] == [[f"Long.{end}"], [f"Short.{end}"]]
    batch = Collate(processor)([rows[0], rows[1]])
    assert batch["input_ids"].shape[0] == 2
    for wrong in (
        lambda: ConversationRows([], store, processor, per_row=2),
        lambda: SlideRows([Asked("a", ())], store, processor, augment=Augmentation(turn=True)),
    ):
        with pytest.raises(HwsiError) as caught:
            wrong()
        assert caught.value.reason is Reason.OPTION_INVALID
