"""Timings, and the encoders of a preset."""

import time

import encoding_fakes as fakes
import pytest

from hwsi.encoding import Timings
from hwsi.encoding.stack import Stack, load_stack
from hwsi.errors import HwsiError
from hwsi.presets import load_preset


def test_share_of_models_counts_overlaps_once():
    timings = Timings()
    timings._intervals = [("read", 0.0, 2.0), ("patch", 1.0, 4.0), ("cells", 2.0, 6.0), ("write", 7.0, 10.0)]
    assert timings.wall == 10.0
    assert timings.model_share() == pytest.approx(0.5)
    assert timings.seconds() == {"cells": 4.0, "patch": 3.0, "read": 2.0, "write": 3.0}


def test_timings_time():
    timings = Timings()
    assert timings.wall == timings.model_share() == 0.0
    with timings("patch"):
        time.sleep(0.02)
    assert timings.seconds()["patch"] >= 0.02
    assert timings.model_share() == 1.0


def test_a_preset_must_fit_its_encoders():
    preset = load_preset("nano")
    stack = fakes.fake_stack()
    stack.check(preset)
    with pytest.raises(HwsiError, match=r"option_invalid.*128 px"):
        stack.check(preset.model_copy(update={"patch_px": 128}))
    swapped = preset.encoders.model_copy(update={"patch": preset.encoders.slide})
    with pytest.raises(HwsiError, match=r"option_invalid.*scale patch"):
        load_stack(preset.model_copy(update={"encoders": swapped}))


def test_identity_tells_encoders_apart():
    stack = fakes.fake_stack()
    assert stack.identity()["patch-fake"]["revision"] == "1"
    other = Stack(stack.cell, stack.patch, stack.region, stack.slide, {"patch-fake": "ab"})
    assert other.identity() != stack.identity()
