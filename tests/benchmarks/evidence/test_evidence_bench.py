"""Parts of the bench that have an answer one can work out: lines, resamples, orders, resuming."""

import json

import numpy as np
import pytest

from hwsi.benchmarks.evidence import risk, run, scaling
from hwsi.benchmarks.evidence.cells import _f1
from hwsi.benchmarks.evidence.citing import TOKENS, _within
from hwsi.benchmarks.evidence.faithful import _gain, _oracle, _pieces
from hwsi.benchmarks.evidence.figure import Line, line, read_line
from hwsi.errors import HwsiError, Reason

PARENT = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4])  # slide, three regions, two patches each


def test_a_line_says_whether_its_floor_holds():
    made = line("lds", "LDS", [0.5, 0.7, float("nan")], ["a", "b", "c"], floor=0.55)
    assert (made.value, made.n, made.patients, made.holds) == (pytest.approx(0.6), 2, 2, True)
    assert line("x", "less", [3.0], ["a"], floor=2.0, less=True).holds is False
    assert line("x", "no floor", [3.0], ["a"]).holds is None
    assert line("x", "nothing", [float("nan")], ["a"], floor=1.0).holds is None


def test_a_line_comes_back_from_json():
    made = line("lds", "LDS", [0.5, 0.7], ["a", "b"], floor=0.55, beside={"random": float("nan"), "other": 1.0})
    again = read_line(json.loads(json.dumps(made.plain(), allow_nan=False)))
    assert again.beside["random"] != again.beside["random"]
    assert again.plain() == made.plain()


def test_the_oracle_has_the_largest_gain_and_its_reverse_the_smallest():
    weight = np.array([0, 0, 0, 0, 0, 3.0, 0.1, 1.0, 0.2, 0.05, 0.5])

    def value(keep):
        return (keep @ weight)[:, None]

    pieces = _pieces(np.array([0, 0, 3.1, 1.2, 0.5, *weight[5:]]), PARENT)
    assert sorted(pieces.tolist()) == [3, 4, 5, 6]  # the leading region is taken patch by patch
    best = _oracle(pieces, PARENT, value)
    assert best.tolist() == [5, 3, 4, 6]
    gains = [_gain(np.array(p), PARENT, value) for p in ([5, 3, 4, 6], [6, 4, 3, 5], [3, 6, 5, 4])]
    assert gains[0] == pytest.approx(-gains[1])
    assert gains[0] > abs(gains[2])


def test_evidence_alone_has_at_most_its_tokens_and_what_stands_above():
    tokens = np.array([5, 1, 2, 2, 2, 7, 7, 7, 7, 7, 7])
    keep = _within(tokens, PARENT, np.array([5, 7, 6, 8]))
    kept = np.flatnonzero(keep).tolist()
    assert kept == [0, 1, 2, 5, 6]  # a second region with its patch would be nine more
    assert tokens[keep][2:].sum() <= TOKENS
    assert (keep[PARENT] | ~keep).all()


def test_cells_are_matched_once():
    true = np.array([[0.0, 0], [10, 0], [20, 0]])
    assert _f1(true, true, 3) == 1
    assert _f1(np.array([[0.0, 1], [1, 0], [50, 50]]), true, 3) == pytest.approx(2 / 6)
    assert _f1(np.zeros((0, 2)), true, 3) == 0


def test_a_risk_holds_where_confidence_tells():
    rng = np.random.default_rng(0)
    sure = rng.beta(6, 1, 4000)
    right = rng.random(4000) < sure
    patients = [f"p{i // 4}" for i in range(4000)]
    held, given = risk._resampled(sure, right, patients, 0)
    assert held >= 90
    assert given > 0.3
    # where it tells nothing and errors are many, nothing can be given
    held, given = risk._resampled(np.full(4000, 0.7), rng.random(4000) < 0.7, patients, 0)
    assert (held, given) == (100.0, 0.0)


def test_an_exponent_is_a_slope():
    assert scaling._slope([float(n) ** 1.3 for n in scaling.REGIONS]) == pytest.approx(1.3)


def test_a_measure_is_made_once_and_anew_for_other_weights(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(run, "make_material", lambda *a, **k: "material")
    monkeypatch.setattr(run, "find_calibration", lambda model, sha: None)
    monkeypatch.setattr(run, "load_model", lambda model: (None, None, "weights"))
    monkeypatch.setitem(run.MEASURES, "pairs", lambda material, seed: made.append(1) or [Line("pairs", "both", 0.8)])
    first, second = (run.run(["pairs"], tmp_path, slides=4) for _ in range(2))
    assert first.to_dict() == second.to_dict() == json.loads((tmp_path / "result.json").read_text())
    assert len(made) == 1
    monkeypatch.setattr(run, "load_model", lambda model: (None, None, "others"))
    run.run(["pairs"], tmp_path, slides=4)
    assert len(made) == 2
    assert first.table().row_count == 1


def test_an_unknown_measure_is_refused(tmp_path):
    with pytest.raises(HwsiError) as caught:
        run.run(["beauty"], tmp_path)
    assert caught.value.reason is Reason.OPTION_INVALID
