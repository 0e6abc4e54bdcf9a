"""The file beside the weights: written and read the same, used only with its own weights, honest about risks."""

import numpy as np
import pytest

from hwsi.errors import HwsiError, Reason
from hwsi.inference import calibration
from hwsi.inference.abstention import CLOSED, fit_confidence, known_closed
from hwsi.inference.calibration import Calibration, find_calibration, read_calibration, write_calibration


def made(n: int = 200, sha: str = "a" * 64) -> Calibration:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(n, len(CLOSED)))
    right = rng.random(n) < 1 / (1 + np.exp(-3 * known[:, 0]))
    confidence = fit_confidence(CLOSED, known, right)
    sure = confidence(known)
    return Calibration(sha, "made up", confidence, tuple(zip(sure.tolist(), right.tolist(), strict=True)))


def test_what_is_written_is_read(tmp_path):
    one = made()
    write_calibration(tmp_path / "evidence.json", one)
    two = read_calibration(tmp_path / "evidence.json")
    known = np.random.default_rng(1).normal(size=(5, len(CLOSED)))
    assert two.confidence(known) == pytest.approx(one.confidence(known), abs=1e-4)
    assert two.threshold(0.2) == pytest.approx(one.threshold(0.2), abs=1e-5)
    assert (two.weights_sha256, two.made_of) == (one.weights_sha256, one.made_of)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other/1"}', '{"schema": "hwsi.evidence/1"}'])
def test_what_is_no_calibration_is_refused(tmp_path, text):
    (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(HwsiError) as caught:
        read_calibration(tmp_path / "evidence.json")
    assert caught.value.reason is Reason.DATA_INVALID


def test_another_models_calibration_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "calibration_path", lambda preset: tmp_path / "evidence.json")
    find_calibration.cache_clear()
    assert find_calibration("nano", "a" * 64) is None
    write_calibration(tmp_path / "evidence.json", made())
    find_calibration.cache_clear()
    assert find_calibration("nano", "b" * 64) is None
    assert find_calibration("nano", "a" * 64) is not None
    find_calibration.cache_clear()


def test_a_risk_that_cannot_be_shown_is_told():
    few = made(20)
    for risk in (0.01, 0.0, 1.5):
        with pytest.raises(HwsiError) as caught:
            few.threshold(risk)
        assert caught.value.reason is Reason.OPTION_INVALID


def test_what_is_known_grows_with_what_the_slide_adds():
    seen, blind = np.array([-0.1, -4.0, -5.0]), np.log([0.4, 0.3, 0.3])
    log_p, margin, added, without = known_closed(seen, blind)
    assert log_p == pytest.approx(0, abs=0.05)
    assert margin == pytest.approx(3.9)
    assert added > 0.5
    assert without == pytest.approx(np.log(0.4))
    assert known_closed(blind, blind)[2] == 0


def test_the_less_sure_is_withheld(nano, features):
    from hwsi.inference import Session

    one = made(400)
    session = Session(*nano, features, calibration=one)
    free = session.ask("Is there necrosis?", ["yes", "no"], evidence=False)
    assert free.calibrated is not None
    least = one.threshold(0.3)
    asked = session.ask("Is there necrosis?", ["yes", "no"], risk=0.3)
    assert asked.withheld == (free.calibrated < least)
    if asked.withheld:
        assert asked.support is not None
        assert (asked.support.verdict.value, asked.evidence) == ("abstain", ())
        assert asked.text not in ("yes", "no")
