import numpy as np
import pytest

from hwsi.phantom import leaks
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.leaks import Result, balanced, gate_text, predict_across, table, thumbnail
from hwsi.phantom.spec import Spec


@pytest.fixture
def labels():
    pytest.importorskip("sklearn")
    y = np.repeat([0, 1, 2], 20)
    return y, [f"P{i}" for i in range(60)]


@pytest.mark.parametrize("nearest", [False, True])
def test_a_planted_leak_is_found_and_noise_is_not(labels, nearest):
    y, groups = labels
    noise = np.random.default_rng(0).normal(size=(60, 2))
    planted = noise + 2.5 * y[:, None]
    for x, leak in ((planted, True), (noise, False)):
        score = balanced(y, predict_across(x, y, groups, nearest=nearest))
        assert Result("diagnosis", "organ", "feature", 60, *score).leaks is leak


@pytest.mark.usefixtures("labels")
def test_twins_stay_together():
    x = np.random.default_rng(1).normal(size=(30, 3)).repeat(2, axis=0)  # pairs of equal features
    answers = np.random.default_rng(2).integers(0, 2, 30).repeat(2)
    pairs = [f"P{i // 2}" for i in range(60)]
    score, chance, error = balanced(answers, predict_across(x, answers, pairs, nearest=True))
    assert score < chance + 3 * error
    alone, _, _ = balanced(answers, predict_across(x, answers, [f"P{i}" for i in range(60)], nearest=True))
    assert alone > score


def test_balanced_accuracy_of_a_constant_is_chance():
    y = np.array([0] * 30 + [1] * 10)
    score, chance, error = balanced(y, np.zeros(40, np.int64))
    assert score == chance == 0.5
    assert error == pytest.approx(0.5 * np.sqrt((1 / 30 + 1 / 10) / 4))


def test_words_that_tell_are_found(labels, monkeypatch):
    rng = np.random.default_rng(0)

    def record(i, telling):
        answer = "yes" if i % 2 else "no"
        word = answer if telling else str(rng.choice(["yes", "no"]))
        question = {"id": f"s{i}/necrosis/0", "kind": "necrosis", "question": f"Is there {word} ?",
                    "choices": ["yes", "no"], "answer": answer, "closed_eval": True}  # fmt: skip
        return {"slide_id": f"s{i}", "organ": "lung", "questions": [question]}

    rows = [{"slide": str(i), "patient": f"P{i}"} for i in range(40)]
    for telling in (True, False):
        truths = [record(i, telling) for i in range(40)]
        monkeypatch.setattr(leaks, "_whole", lambda _, truths=truths: (rows, truths))
        (result,) = gate_text(leaks.Path("."))
        assert result.leaks is telling
        assert ("LEAK" in table([result])) is telling


@pytest.mark.parametrize("suffix", [".svs", ".tiff"])
def test_thumbnails_of_both_layouts(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_phantom(path, Spec(seed=5, diagnosis="lung adenocarcinoma", width_um=640, height_um=384))
    small = thumbnail(path)
    assert small.shape[2] == 3
    assert 32 <= min(small.shape[:2]) <= max(small.shape[:2]) <= 256
    assert small.shape[1] / small.shape[0] == pytest.approx(640 / 384, rel=0.1)
