"""A record that exists is sound in itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hwsi.training.data.records import (
    MAX_CHARS,
    ConversationRecord,
    PairRecord,
    PreferenceRecord,
    ReportRecord,
    TarMember,
    slide_name,
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("TCGA-LUSC/TCGA-21-1083-01Z-00-DX1.8288ca92-b611.pt", "TCGA-21-1083-01Z-00-DX1.8288ca92-b611"),
        ("TCGA-21-1083-01Z-00-DX1.8288ca92-b611", "TCGA-21-1083-01Z-00-DX1.8288ca92-b611"),
        ("TCGA-A7-A0CJ-01Z-00-DX2.csv", "TCGA-A7-A0CJ-01Z-00-DX2"),
        (r"C:\slides\a.ome.TIFF", "a"),
        ("a.b.c", "a.b.c"),
        (".svs", ".svs"),
    ],
)
def test_a_slide_is_named_by_its_stem_and_never_cut_shorter(path, name):
    assert slide_name(path) == name


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,30}", fullmatch=True))
def test_the_name_of_a_slide_does_not_depend_on_its_file(name):
    plain = slide_name(name)
    assert slide_name(f"folder/{plain}.svs") in (plain, plain.removesuffix(".ome"))
    assert slide_name(f"x/y/{name}") == plain


def kinds(call) -> set[str]:
    with pytest.raises(ValidationError) as caught:
        call()
    return {fault["type"] for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (" \n ", "empty_text"),
        ("x" * (MAX_CHARS + 1), "too_long"),
        ("as <|end|> ends", "special_token"),
        ("an <image> here", "special_token"),
        ("a\0b", "odd_character"),
        ("a\ud800b", "odd_character"),
        (7, "string_type"),
    ],
)
def test_texts_that_no_model_can_learn_are_refused(text, kind):
    assert kinds(lambda: ReportRecord(slide="a", report=text)) == {kind}
    assert kinds(lambda: PreferenceRecord(slide="a", question="?", chosen="b", rejected=text)) == {kind}


def test_white_space_around_a_text_goes_and_empty_options_are_none():
    found = ReportRecord(slide="x/a.svs", report=" It is.\n", caption=None, split="Validation", lang="")
    assert (found.slide, found.report, found.caption, found.split, found.lang) == ("a", "It is.", "", "val", "en")
    assert kinds(lambda: ReportRecord(slide="a", report="b", split="holdout")) == {"literal_error"}


def said(*roles: str):
    return ConversationRecord(slide="a", turns=tuple({"role": r, "content": "words"} for r in roles))


def test_a_conversation_takes_turns_and_the_assistant_has_the_last_word():
    whole = said("system", "user", "assistant", "user", "assistant")
    assert [m["role"] for m in whole.messages()] == ["system", "user", "assistant", "user", "assistant"]
    for roles in ([], ["user"], ["assistant", "user"], ["user", "assistant", "user"], ["user", "user"], ["system"]):
        assert kinds(lambda roles=roles: said(*roles)) == {"bad_turns"}
    assert kinds(lambda: said("user", "system", "assistant")) == {"bad_turns"}
    assert kinds(lambda: said("human", "gpt")) == {"literal_error"}


def test_a_conversation_is_about_one_slide():
    assert ConversationRecord(image=["x/a.pt"], turns=said("user", "assistant").turns).slide == "a"
    assert kinds(lambda: ConversationRecord(image=["a", "b"], turns=said("user", "assistant").turns)) == {
        "several_slides"
    }


def test_a_preference_prefers_something():
    asked = {"slide": "a", "question": "Which?", "chosen": "yes"}
    assert PreferenceRecord(**asked, rejected="no", choices="yes | no").choices == ("yes", "no")
    assert kinds(lambda: PreferenceRecord(**asked, rejected=" YES ")) == {"same_answers"}
    assert kinds(lambda: PreferenceRecord(**asked, rejected="no", choices=["one"])) == {"bad_choices"}
    assert kinds(lambda: PreferenceRecord(**asked, rejected="no", choices="yes|Yes")) == {"bad_choices"}


def test_an_image_is_read_from_a_file_from_bytes_or_from_inside_a_tar(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    (tmp_path / "b.tar").write_bytes(b"0123picture789")
    inside = TarMember(tmp_path / "b.tar", "a.png", 4, 7)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), b"picture", inside):
        assert PairRecord(image=image, caption="a gland").read() == b"picture"
    with pytest.raises(OSError, match="cut short"):
        PairRecord(image=inside._replace(size=99), caption="a gland").read()
