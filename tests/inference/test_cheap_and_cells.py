"""Gradients and single cells on a real, tiny model: against finite differences and against the cached prefix."""

import numpy as np
import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.inference.cells import reader, worth_of_sets
from hwsi.inference.evidence import CELL, depths
from hwsi.inference.evidence.attribution import Mode
from hwsi.inference.evidence.worth import ancestors
from hwsi.inference.padding import pad

QUESTION, CHOICES = "Is there necrosis?", ("yes", "no")


def test_the_values_of_the_slopes_are_those_of_leaving_out(session):
    claims = session.choose(QUESTION, CHOICES).claims
    keep = np.ones((3, len(claims.parent)), bool)
    keep[1, depths(claims.parent) > 2] = False
    keep[2, depths(claims.parent) > 1] = False
    values, relevance = claims.slopes(keep)
    assert values == pytest.approx(claims.value(keep), abs=1e-4)
    assert relevance.shape == (1, len(claims.parent))
    # what is hidden in every row was looked at by nobody
    _, hidden = claims.slopes(keep[2:])
    assert not hidden[0, depths(claims.parent) > 1].any()


def test_cheap_full_and_none(session):
    cheap = session.ask(QUESTION, CHOICES, evidence=Mode.CHEAP)
    full = session.ask(QUESTION, CHOICES, evidence=Mode.FULL)
    none = session.ask(QUESTION, CHOICES, evidence=False)
    assert cheap.text == full.text == none.text
    assert (cheap.found_by, full.found_by, none.found_by) == ("cheap", "full", "")
    assert cheap.passes < full.passes
    assert full.agreement is not None
    assert -1 <= full.agreement <= 1
    assert session.ask("What is seen?", evidence=Mode.CHEAP, max_new_tokens=6).found_by == "cheap"


def test_a_risk_needs_a_calibration_and_options(session):
    for asked in ((QUESTION, CHOICES), ("What is seen?",)):
        with pytest.raises(HwsiError) as caught:
            session.ask(*asked, risk=0.1, evidence=False)
        assert caught.value.reason is Reason.OPTION_INVALID


def test_a_patch_alone_reads_as_hidden_behind_the_cache(session):
    """The little prompt with all its cells is the cached slide with everything else hidden."""
    chosen = session.choose(QUESTION, CHOICES)
    parent = chosen.claims.parent
    ids = session.processor.question(QUESTION, CHOICES)
    suffix, mask = pad([ids + session.processor.answer(c) for c in CHOICES])

    def odds(log_p):
        of = log_p[:, :, len(ids) :].sum(2)
        return of[:, chosen.chosen] - of[:, 1 - chosen.chosen]

    prefix = session.processor.prefix(session.features)
    looked = 0
    for node in np.flatnonzero(depths(parent) == CELL)[:4]:
        k, read = reader(session.model, prefix, int(node), suffix, mask, odds)
        if k:
            looked += 1
            alone = chosen.claims.value(ancestors(parent, int(node))[None])[0, 0]
            assert read(np.ones((1, k), bool))[0] == pytest.approx(alone, abs=1e-4)
            assert np.isfinite(worth_of_sets(read, np.eye(k, dtype=bool))).all()
    assert looked


def test_the_kernel_is_what_it_was_after_a_glance(session):
    before = session.model.model.language_model.config._attn_implementation
    session.ask(QUESTION, CHOICES, evidence=Mode.CHEAP)
    assert session.model.model.language_model.config._attn_implementation == before
    assert all(p.grad is None for p in session.model.parameters())
    assert torch.is_grad_enabled()
