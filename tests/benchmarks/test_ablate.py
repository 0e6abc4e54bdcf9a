"""The ablation: what is switched off is not in the prompt, and a run that is done is not run again."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwsi.benchmarks import ablate
from hwsi.benchmarks.ablate import Budget, answer_loss, table
from hwsi.benchmarks.ablate_data import SEVERAL, deciding
from hwsi.benchmarks.ablate_model import build_processor, only_scales
from hwsi.benchmarks.ablate_variants import SCALES, VARIANTS
from hwsi.benchmarks.ablate_words import take
from hwsi.model.attention import TEXT_NODE
from hwsi.model.config import PLACEHOLDERS
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.prompt import Layout, Node
from hwsi.model.tokenizer import train_nano_tokenizer

WHOLE = Layout(
    (
        Node("text", "", 0, TEXT_NODE), Node("slide", "", 0, 0), Node("region", "R1", 0, 1),
        Node("patch", "R1.P3", 2, 2), Node("cell", "R1.P3", 2, 3),
    ),
    (
        (PLACEHOLDERS["slide"], 1), ("R1", 2), (PLACEHOLDERS["region"], 2), ("P3", 3), (PLACEHOLDERS["patch"], 3),
        (PLACEHOLDERS["cell"], 4),
    ),
    np.array([2]),
)  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_a_scale_that_is_off_is_not_in_the_prompt(variant):
    pieces = [text for text, _ in only_scales(WHOLE, variant.scales).pieces]
    for scale in SCALES:
        assert (PLACEHOLDERS[scale] in pieces) == (scale in variant.scales)
    assert ("R1" in pieces) == ("region" in variant.scales)


def test_all_four_is_the_whole_layout_and_patches_without_regions_have_whole_names():
    assert only_scales(WHOLE, SCALES) == WHOLE
    assert [t for t, _ in only_scales(WHOLE, ("slide", "patch", "cell")).pieces][1] == "R1.P3"
    assert [t for t, _ in only_scales(WHOLE, ("slide",)).pieces] == [PLACEHOLDERS["slide"]]


def test_the_variants_are_those_asked_for():
    losses = {(v.contrast, v.consistency, v.pairing) for v in VARIANTS.values() if v.scales == SCALES}
    assert losses == {(True, True, "maxsim"), (False, True, "maxsim"), (True, False, "maxsim"), (True, True, "pooled")}
    assert len({(v.scales, v.contrast, v.consistency, v.pairing, v.mixing) for v in VARIANTS.values()}) == len(VARIANTS)
    assert {v.mixing for v in VARIANTS.values()} == {"none", "hier", "full"}


@pytest.mark.parametrize("variant", [v for v in VARIANTS.values() if v.scales == SCALES], ids=lambda v: v.name)
def test_a_model_mixes_as_its_variant_says(variant):
    config, _ = build_processor(train_nano_tokenizer(["Is there a mitosis? yes no"]), variant.mixing)
    assert config.visual_mixing == variant.mixing


def test_the_grade_is_decided_by_several_scales():
    assert deciding({"kind": "grade", "scale": "slide"}) == SEVERAL
    assert deciding({"kind": "discordance", "scale": "region+cell"}) == SEVERAL
    assert deciding({"kind": "mitosis", "scale": "cell"}) == "cell"


def test_a_long_answer_does_not_drown_a_short_one():
    torch.manual_seed(0)
    states = torch.randn(1, 12, 4, requires_grad=True)
    head = torch.nn.Linear(4, 7, bias=False)
    model = SimpleNamespace(language=SimpleNamespace(lm_head=head))
    labels = torch.full((1, 12), -100)
    labels[0, 2], labels[0, 4:12] = 3, 5
    segments = torch.tensor([[0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2]])
    loss = answer_loss(model, states, {"labels": labels, "segment_ids": segments})
    log_p = head(states).log_softmax(-1)
    short, long = -log_p[0, 1, 3], -log_p[0, 3:11, 5]
    weight = 8**-0.75
    expected = (short + weight * long.sum()) / (1 + 8 * weight)
    assert torch.allclose(loss, expected)


QUESTIONS = [
    {"id": f"s/{k}/{i}", "kind": k, "scale": s, "answer": "yes" if i else "no", "choices": ["yes", "no"]}
    for k, s in (("mitosis", "cell"), ("grade", "slide"))
    for i in (0, 1)
]
COURSE = SimpleNamespace(
    train=(1, 2, 3), test=(SimpleNamespace(record={"slide_id": "s", "organ": "colon"}),), questions={"s": QUESTIONS}
)


def test_runs_are_done_once_and_again_only_for_another_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done, works = [], []

    def one(course, variant, seed, budget, words, work, device):
        assert words == {"read": budget.words}
        done.append((variant.name, seed))
        works.append(work)
        work.mkdir(parents=True)
        return {"accuracy": {"cell": 0.5 + seed / 10, SEVERAL: 1.0, "all": 0.75}, "seconds": 1.0}

    monkeypatch.setattr(ablate, "_one", one)
    monkeypatch.setattr(ablate, "read_course", lambda *folders: COURSE)
    monkeypatch.setattr(ablate, "reading_weights", lambda course, out, *, steps, **others: {"read": steps})
    variants = [VARIANTS["slide"], VARIANTS["all"]]
    asked = {"cohort": tmp_path, "test": tmp_path, "features": tmp_path, "variants": variants, "seeds": 2}
    found = ablate.run(tmp_path / "out", budget=Budget(), **asked)
    assert done == [("slide", 0), ("all", 0), ("slide", 1), ("all", 1)]
    assert {name: len(results) for name, results in found.items()} == {"slide": 2, "all": 2}
    assert [r["seed"] for r in found["all"]] == [0, 1]
    ablate.run(tmp_path / "out", budget=Budget(), **asked)
    assert len(done) == 4
    (tmp_path / "out" / "runs" / "all-1.json").unlink()
    ablate.run(tmp_path / "out", budget=Budget(), **asked)
    assert done[4:] == [("all", 1)]
    ablate.run(tmp_path / "out", budget=Budget(steps=5), **asked)
    assert len(done) == 9
    assert works[0] != works[5], "a checkpoint of another budget is not gone on from"
    assert not any(work.exists() for work in works), "what is done needs no checkpoint"
    text = (tmp_path / "out" / "ablation.md").read_text()
    assert "| slide vector only | 0.550 ± 0.071 | - | - | - | 1.000 ± 0.000 | 0.750 ± 0.000 |" in text


def test_the_table_counts_questions_and_the_majority():
    results = {"all": [{"accuracy": {"cell": 1.0, "all": 1.0}}]}
    lines = table(COURSE, results, Budget()).splitlines()
    assert any(line.startswith("| *questions* | 2 | 0 | 0 | 0 | 2 | 4 |") for line in lines)
    assert any(line.startswith("| *majority answer* | 0.500 | - | - | - | 0.500 | 0.500 |") for line in lines)
    assert any(line.startswith("| all four, maxsim | 1.000 |") for line in lines)


def test_all_runs_begin_with_the_same_words_and_with_their_own_eyes():
    config, _ = build_processor(train_nano_tokenizer(["What is this? It is tissue."]))
    torch.manual_seed(0)
    first, second = (HwsiForConditionalGeneration(config) for _ in range(2))
    own = {k: v.clone() for k, v in second.model.visual.projectors["slide"].state_dict().items()}
    weights = {k: v.clone() for k, v in first.state_dict().items() if "visual" not in k and k != "lm_head.weight"}
    take(second, weights)
    assert torch.equal(second.lm_head.weight, first.lm_head.weight)
    assert all(torch.equal(v, own[k]) for k, v in second.model.visual.projectors["slide"].state_dict().items())
    with pytest.raises(RuntimeError, match="another language model"):
        take(second, {"model.unheard.weight": torch.zeros(1)})


@pytest.mark.slow
def test_every_variant_trains_and_answers_on_drawn_slides(tmp_path: Path):
    from hwsi.training.nano.regenerate import regenerate_cohort

    for split, count in (("train", 4), ("test", 8)):
        regenerate_cohort(tmp_path / split, tmp_path / "job", count, 1, split=split, sides_um=(768, 896))
        assert not list((tmp_path / split).glob("*.svs"))
        assert not list((tmp_path / split).glob("*.tiff"))
    asked = {"cohort": tmp_path / "train", "test": tmp_path / "test", "features": tmp_path / "job"}
    found = ablate.run(tmp_path / "out", budget=Budget(steps=2, slides=2, questions=3, words=2), seeds=1, **asked)
    assert len(list((tmp_path / "out").glob("words-*.safetensors"))) == 1
    assert set(found) == set(VARIANTS)
    for results in found.values():
        assert 0 <= results[0]["accuracy"]["all"] <= 1
