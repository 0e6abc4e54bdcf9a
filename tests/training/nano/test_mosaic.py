"""Tops of trees with each other's regions: what a label stands for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwsi.model.attention import SLIDE_NODE
from hwsi.training.data.rows import STAYS


@pytest.fixture
def share_of_drills() -> float:
    return 0.0


@pytest.fixture
def lessons(
    world: tuple[Path, Path], projected: Path, aligned: Path, monkeypatch: pytest.MonkeyPatch, share_of_drills: float
) -> Any:
    """Of all slides, which stand as they are."""
    from hwsi.model.checkpoint import load
    from hwsi.training.nano import lessons
    from hwsi.training.nano.cohort import slides_of
    from hwsi.training.nano.language import Views
    from hwsi.training.nano.lessons import Lessons, Slides

    draw = Views.draw

    def unturned(self: Views, rng: np.random.Generator) -> Any:
        _, _, relevance, of_slide, of_regions = draw(self, np.random.default_rng(8))  # its first number is 0
        return self.plain(), 0, relevance, of_slide, of_regions

    monkeypatch.setattr(Views, "draw", unturned)
    monkeypatch.setattr(lessons, "_DRILLS", share_of_drills)
    cohort, job = world
    encoders = {scale: aligned / "encoders" / f"{scale}.safetensors" for scale in ("region", "slide")}
    of = Slides(slides_of([cohort], job), job, **encoders, processor=load(projected / "model")[1])
    return Lessons(of, range(len(of.slides)), rows=1, questions=3, seed=0)


def sources(lessons: Any) -> dict[bytes, str]:
    """Vector of a region -> its sentence."""
    from hwsi.training.nano.dialogues import Teacher

    of, found = lessons._of, {}
    for view, truth in zip(of.views, of.truths, strict=True):
        seen = view.plain()
        for label, sentence in Teacher(truth, seen.hierarchy, of.counts).regions().items():
            found[seen.region["region-nano"][int(label[1:]) - 1].tobytes()] = sentence
    return found


@pytest.mark.parametrize("epoch", range(4))
def test_every_label_is_described_by_the_region_that_stands_there(lessons: Any, epoch: int) -> None:
    tokenizer, sentence_of, asked = lessons._of.processor.tokenizer, sources(lessons), 0
    for row in lessons[epoch, 0]:
        for segment in range(1, int(row["segment_ids"].max()) + 1):
            here = row["segment_ids"] == segment
            label = re.search(r"R(\d+)", tokenizer.decode(row["input_ids"][here]))
            said = tokenizer.decode(row["labels"][here & (row["labels"] >= 0)], skip_special_tokens=True)
            assert label is not None
            vector = row["region_features"][int(label[1]) - 1].numpy()
            assert said.strip() == sentence_of[vector.tobytes()]
            asked += 1
    assert asked > 0


def test_no_region_is_lost_and_some_change_their_slide(lessons: Any) -> None:
    rows = lessons[0, 0]
    there = [[v.tobytes() for v in row["region_features"].numpy()] for row in rows]
    mine = [{v.tobytes() for v in view.plain().region["region-nano"]} for view in lessons._of.views]
    assert sorted(v for row in there for v in row) == sorted(v for slide in mine for v in slide)
    assert not any(set(row) == slide for row in there for slide in mine)


def test_the_token_of_the_slide_and_regions_that_nobody_asks_about_are_hidden(lessons: Any) -> None:
    counts = set()
    for epoch in range(6):
        for row in lessons[epoch, 0]:
            size = int((row["segment_ids"] == 0).sum())
            stays, node = row[STAYS][:size], row["token_node"][:size]
            assert not stays[node == SLIDE_NODE].any()
            seen = torch.unique(node[stays & (node > SLIDE_NODE)])
            asked = int(row["segment_ids"].max())
            assert len(seen) == asked
            counts.add(asked)
    assert counts == {1, 2}


@pytest.mark.parametrize("share_of_drills", [1.0])
def test_drills_show_the_slide_or_its_regions_and_ask_of_the_whole(lessons: Any) -> None:
    tokenizer, seen, asked = lessons._of.processor.tokenizer, set(), set()
    for index in range(40):
        for row in lessons[1, index]:
            size = int((row["segment_ids"] == 0).sum())
            stays, node = row[STAYS][:size], row["token_node"][:size]
            assert stays[node < SLIDE_NODE].all(), "words stay"
            whole, regions = bool(stays[node == SLIDE_NODE].all()), stays[node > SLIDE_NODE]
            assert bool(regions.all()) or not bool(regions.any())
            seen.add((whole, bool(regions.any())))
            for segment in range(1, int(row["segment_ids"].max()) + 1):
                asked.add(tokenizer.decode(row["input_ids"][row["segment_ids"] == segment]))
    assert {(True, False), (True, True), (False, True)} >= seen >= {(True, False), (True, True)}
    assert any("artefact" in text for text in asked)
    assert any("fragment" in text for text in asked)
    assert not any(re.search(r"R\d", text) for text in asked)
