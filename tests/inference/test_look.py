"""A look at a part of a slide: what is encoded, what is told, and that looking further ends in the whole."""

import numpy as np
import pytest

from hwsi.encoding import encode_to_file
from hwsi.errors import HwsiError, Reason
from hwsi.features import read_features
from hwsi.inference import look as module
from hwsi.inference import study
from hwsi.inference.look import look
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.sampling import draw_plans

QUESTION, CHOICES = "Is there necrosis?", ["yes", "no"]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("look") / "phantom.svs"
    write_phantom(path, draw_plans(1, 0, "demo")[0].spec)
    return path


@pytest.mark.slow
def test_a_sure_answer_reads_a_quarter_and_the_whole_goes_on_from_it(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SURE", 0.0)
    with look(slide, QUESTION, CHOICES, share=0.25, out=tmp_path) as part:
        assert 0 < part.looked_at < 1
        assert len(part.features.hierarchy.regions) == 1
        assert any("chosen at low magnification" in w for w in part.warnings)
        answer = part.ask(QUESTION, CHOICES)
        assert answer.looked_at == part.looked_at
    journal = list((tmp_path / "partial").rglob("*.npz"))
    assert len(journal) == 1
    read = journal[0].stat().st_mtime_ns
    # the whole keeps what was read, and is what it would have been
    whole = read_features(encode_to_file(slide, tmp_path))
    fresh = read_features(encode_to_file(slide, tmp_path / "fresh"))
    assert read
    assert np.array_equal(whole.patch["patch-nano"], fresh.patch["patch-nano"])
    assert np.array_equal(whole.slide["slide-nano"], fresh.slide["slide-nano"])
    # what is whole is read whole
    with look(slide, QUESTION, CHOICES, share=0.25, out=tmp_path) as again:
        assert again.looked_at == 1


@pytest.mark.slow
def test_an_unsure_answer_looks_further_until_all_is_read(slide, monkeypatch):
    monkeypatch.setattr(module, "SURE", 2.0)
    with look(slide, QUESTION, CHOICES, share=0.25) as all_of_it, study(slide) as whole:
        assert all_of_it.looked_at == pytest.approx(1)
        assert not any("low magnification" in w for w in all_of_it.warnings)
        seen, _ = all_of_it.choice_log_probs(QUESTION, CHOICES)
        expected, _ = whole.choice_log_probs(QUESTION, CHOICES)
        assert seen == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(HwsiError) as caught:
        look(tmp_path / "slide.svs", QUESTION, share=share)
    assert caught.value.reason is Reason.OPTION_INVALID


def test_a_preset_that_fuses_at_the_end_is_refused(tmp_path):
    with pytest.raises(HwsiError) as caught:
        look(tmp_path / "slide.svs", QUESTION, CHOICES, share=0.5, preset="released")
    assert caught.value.reason is Reason.OPTION_INVALID
    assert "--look" in caught.value.todo


@pytest.mark.slow
def test_what_another_process_has_made_whole_meanwhile_is_read_whole(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "read_seen", lambda *args, **kwargs: None)
    with look(slide, QUESTION, CHOICES, share=0.25, out=tmp_path) as whole:
        assert whole.looked_at == 1
