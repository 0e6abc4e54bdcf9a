"""Reports in their units: tricky pathology text, and what must hold of any text."""

import json

import pytest
from golden_text import REPORTS
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.training.objectives.units import decompose


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A tumour of approx. 3.5 cm. Margins are free.", ["A tumour of approx. 3.5 cm.", "Margins are free."]),
        ("Seen by Dr. J. Smith. Stain, e.g. Ki-67.", ["Seen by Dr. J. Smith.", "Stain, e.g. Ki-67."]),
        ("See Fig. 2 and block no. 3. No mitoses.", ["See Fig. 2 and block no. 3.", "No mitoses."]),
        ("Necrosis: no. Mitoses: 3 per 10 HPF.", ["Necrosis: no.", "Mitoses: 3 per 10 HPF."]),
        ("A nodule, 2 cm. in diameter. It is firm.", ["A nodule, 2 cm. in diameter.", "It is firm."]),
        ("H. pylori is seen. E. coli is not.", ["H. pylori is seen.", "E. coli is not."]),
        ("Taken from block A. The margin is clear.", ["Taken from block A.", "The margin is clear."]),
        ("1. Carcinoma. 2. Margins free.", ["1. Carcinoma.", "2. Margins free."]),
        ("Grade 2! Is it invasive? pT2 N0.", ["Grade 2!", "Is it invasive?", "pT2 N0."]),
        ("the tumour is large. it is firm.", ["the tumour is large.", "it is firm."]),
        ("FINDING\n\nA. Skin: naevus\nB. Melanoma\nin situ", ["FINDING", "A. Skin: naevus", "B. Melanoma in situ"]),
        ('He wrote "benign." The rest agrees.', ['He wrote "benign."', "The rest agrees."]),
        ("As Elston et al. described. Fine.", ["As Elston et al. described.", "Fine."]),
    ],
)  # fmt: skip
def test_sentences(text: str, sentences: list[str]) -> None:
    assert list(decompose(text).sentences) == sentences


@pytest.mark.parametrize(
    "term",
    [
        "ductal carcinoma in situ", "Ki-67", "HER2/neu", "pT2N0", "pT2 N0 M0", "ypT1c", "4 mm", "3.5 x 2.0 x 1 cm",
        "ER-positive", "3+4=7", "grade III", "grade group 2", "squamous cell carcinoma", "lymph nodes", "30 %", "CD3+",
        "p53", "10-20 %", "invasive carcinoma of no special type", "H. pylori", "1/12", "5 mm2",
        "tumour-infiltrating lymphocytes",
    ],
)  # fmt: skip
def test_a_term_is_one_word(term: str) -> None:
    units = decompose(f"Sections show {term}, seen twice.")
    assert term in units.words
    assert any(term in phrase for phrase in units.phrases)


def test_phrases_and_words_of_a_sentence() -> None:
    units = decompose("Sections show an invasive ductal carcinoma with marked atypia, and brisk mitoses.")
    assert units.phrases == ("invasive ductal carcinoma", "marked atypia", "brisk mitoses")
    assert units.words == ("invasive ductal carcinoma", "marked", "atypia", "brisk", "mitoses")


@pytest.mark.parametrize(
    "denial",
    [
        "No necrosis or vascular invasion",
        "Necrosis is not seen",
        "without mitoses, mucin and keratin",
        "Margins are negative",
    ],
)
def test_what_is_denied_stays_with_its_denial(denial: str) -> None:
    units = decompose(f"Atypia is marked. {denial}.")
    assert denial in units.phrases
    assert denial in units.words
    assert not {"necrosis", "vascular invasion", "mitoses", "mucin", "keratin", "Necrosis"} & set(units.words)


def test_a_contrast_ends_a_denial() -> None:
    assert decompose("No necrosis but brisk mitoses.").words == ("No necrosis", "brisk", "mitoses")


def test_a_unit_stands_once() -> None:
    units = decompose("Atypia is marked. Atypia is marked. Marked atypia.")
    assert units.sentences == ("Atypia is marked.", "Marked atypia.")
    assert units.words == ("Atypia", "marked")


def test_nothing_in_gives_nothing_out() -> None:
    assert decompose(" \n\t ") == decompose("")
    assert decompose("").sentences == ()
    assert decompose("of the").words == ("of the",)
    assert decompose("-- .").words == ("-- .",)


def check(text: str) -> None:
    units = decompose(text)
    assert units.paragraph == " ".join(text.split())
    for below, above in (
        (units.sentences, [units.paragraph]),
        (units.phrases, units.sentences),
        (units.words, units.sentences),
    ):
        assert bool(below) == bool(units.paragraph)
        at = [next((i for i, whole in enumerate(above) if unit in whole), None) for unit in below]
        assert None not in at, [u for u, i in zip(below, at, strict=True) if i is None]
        assert len({u.casefold() for u in below}) == len(below)
    places = [units.paragraph.find(s) for s in units.sentences]
    assert places == sorted(places) or any(units.paragraph.count(s) > 1 for s in units.sentences)


REPORT_LIKE = (
    "no not with and or but of the is are Tumour necrosis, mitoses; atypia: 3.5 cm. e.g. Dr. Ki-67 pT2 N0 grade 2 "
    "(HER2/neu) ductal carcinoma in situ. 1. - A. ; . ! ? ... µm ≥ 4+ Ü 100% x 3 H. pylori lymph nodes"
)
PIECES = st.sampled_from([*REPORT_LIKE.split(), "\n\n", "\n"])


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=30).map(" ".join))
def test_any_text_of_reports(text: str) -> None:
    check(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120))
def test_any_text_at_all(text: str) -> None:
    check(text)


@pytest.mark.skipif(not REPORTS.is_file(), reason=f"no reports at {REPORTS}")
def test_real_reports_have_different_units_at_every_level() -> None:
    reports = [json.loads(line)["T-answer"] for line in REPORTS.read_text().splitlines()]
    several = 0
    for report in reports:
        check(report)
        units = decompose(report)
        several += len(units.words) > len(units.phrases) > len(units.sentences) > 1
        assert all(len(s.split()) > 1 for s in units.sentences)
    assert several / len(reports) > 0.95
