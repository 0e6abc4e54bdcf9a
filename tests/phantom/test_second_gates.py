"""The gate of the second edition tells when something trivial knows an answer, and not when nothing does."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hwsi.phantom.sampling import TRIPLES
from hwsi.phantom.second import gates
from hwsi.phantom.second.questions import composites

pytest.importorskip("sklearn")
GRADES = {t: g for g, ts in TRIPLES.items() for t in ts}


def records():
    """Graded slides of two organs, every triple of scores four times."""
    found = []
    for n, (a, b, c, k) in enumerate(product((1, 2, 3), (1, 2, 3), (1, 2, 3), range(4))):
        slide = {"tubule_score": a, "pleomorphism_score": b, "mitosis_score": c, "grade": GRADES[a, b, c]}
        found.append({
            "slide_id": f"s{n}", "seed": n, "organ": ("colon", "lung")[k % 2], "malignant": True, "regions": [],
            "diagnosis": ("colonic adenocarcinoma", "lung adenocarcinoma")[k % 2], "slide": slide, "questions": [],
        })  # fmt: skip
    return found


@pytest.mark.parametrize("told", [False, True])
def test_a_file_size_that_knows_the_answer_is_caught(monkeypatch: pytest.MonkeyPatch, told: bool):
    truths = records()
    rng = np.random.default_rng(0)
    size = rng.normal(0, 1, (len(truths), 1))
    if told:
        size[:, 0] += [4.0 * (composites(t, held_out=True)[0]["answer"] == "yes") for t in truths]
    features = {"mean colour": rng.normal(0, 1, (len(truths), 3)), "thumbnail": rng.normal(0, 1, (len(truths), 9)),
                "file size": size}  # fmt: skip
    monkeypatch.setattr(gates, "slide_features", lambda folder: (features, truths, [t["slide_id"] for t in truths]))
    monkeypatch.setattr(gates, "read_manifest", lambda folder: [])
    found = {r.feature: r for r in gates.gate_second(Path()) if r.group == "discordance"}
    assert set(found) == {"text only", "mean colour", "thumbnail", "file size"}
    assert found["file size"].leaks == told
    assert not any(r.leaks for name, r in found.items() if name != "file size")
    assert found["text only"].chance == 0.5
