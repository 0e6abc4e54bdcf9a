"""Stage 4: preferences, the feedback store and the simulated expert."""

import math
import sqlite3

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stage_fakes import COLOURS, NAMES, QUESTION, config_of, dropouts, losses, tiny_model, weights, write_former

from hwsi.errors import HwsiError, Reason
from hwsi.model import load
from hwsi.training.data.rows import Collate
from hwsi.training.stages.expert import Judged, better, sample_two
from hwsi.training.stages.feedback import Feedback, add_feedback, read_feedback
from hwsi.training.stages.prefer import PreferTrainer, gather_preferences, run_prefer, sequence_log_probs
from hwsi.training.stages.run import make_ready, make_trainer
from hwsi.training.stages.watch import silent


def trainer_of(config, out):
    ready = make_ready(config, gather_preferences, None)
    extra = {"beta": config.beta, "reference": None}
    return ready, make_trainer(ready, out, PreferTrainer, progress=silent, since=0, extra=extra)


def test_the_first_loss_is_that_of_no_preference_and_learning_lowers_it(world, instructed, tmp_path):
    record = run_prefer(config_of("prefer", world, instructed, steps=24, optimiser__lr=0.005), tmp_path / "out")
    curve = losses(tmp_path / "out")
    assert curve[1] == pytest.approx(math.log(2), abs=1e-6)  # policy and reference are the same model
    assert sum(curve[step] for step in range(19, 25)) / 6 < curve[1]
    assert record.metrics["margin"] != 0
    before, after = weights(instructed / "model"), weights(tmp_path / "out" / "model")
    names = {name for name in before if not torch.equal(before[name], after[name])}
    assert names
    assert all(".language_model.layers." in name for name in names)


def test_the_reference_is_the_model_that_was_given(world, instructed, tmp_path):
    ready, trainer = trainer_of(config_of("prefer", world, instructed), tmp_path)
    batch = Collate(ready.processor)([ready.material.rows[i] for i in range(2)])
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        changed = sequence_log_probs(trainer.model, batch)
        with trainer.model.disable_adapter():
            reference = sequence_log_probs(trainer.model, batch)
    former, _ = load(instructed / "model")
    assert torch.equal(reference, sequence_log_probs(former, batch))
    assert not torch.allclose(changed, reference)
    assert dropouts(trainer.model) <= {0.0}


def test_a_reference_worked_out_before_gives_the_same_curve(world, instructed, tmp_path):
    switched = config_of("prefer", world, instructed, steps=4)
    run_prefer(switched, tmp_path / "switched")
    run_prefer(config_of("prefer", world, instructed, steps=4, precompute=True), tmp_path / "before")
    assert losses(tmp_path / "before") == pytest.approx(losses(tmp_path / "switched"), rel=1e-5)


def test_accumulated_pairs_give_the_loss_of_one_pass(world, instructed, tmp_path):
    from hwsi.training.stages.watch import LOG, read_log

    found = []
    for rows, accumulate in ((6, 1), (2, 3)):
        out = tmp_path / str(rows)
        run_prefer(config_of("prefer", world, instructed, steps=1, batch__rows=rows, batch__accumulate=accumulate), out)
        line = next(line for line in read_log(out / LOG) if "loss" in line)
        found.append((line["loss"], line["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_all_weights_learn_only_against_a_reference_worked_out_before(world, instructed, tmp_path):
    with pytest.raises(ValueError, match="precompute"):
        config_of("prefer", world, instructed, learn={"visual": "frozen", "language": "full"})
    full = {"visual": "frozen", "language": "full"}
    run_prefer(config_of("prefer", world, instructed, steps=2, precompute=True, learn=full), tmp_path / "out")
    assert losses(tmp_path / "out")[1] == pytest.approx(math.log(2), abs=1e-6)


# --- feedback --------------------------------------------------------------------------------------------


def say(path, verdict="wrong", **changes):
    told = {"slide_id": f"{0:032x}", "patient_id": "patient0", "question": QUESTION, "answer": "green", "better": "red"}
    return add_feedback(path, Feedback(**{**told, **changes}, verdict=verdict))


def test_the_last_word_of_a_person_counts(tmp_path):
    path = tmp_path / "feedback.sqlite"
    say(path, choices=COLOURS, box=(1, 2, 3, 4))
    say(path, better="blue", choices=COLOURS, annotator="A")
    say(path, better="grey", annotator="B")
    say(path, "right", annotator="B")
    say(path, "wrong", better="", question="Is it large?")
    found = read_feedback(path)
    assert [(p.chosen, p.rejected, p.annotator) for p in found] == [("red", "green", ""), ("blue", "green", "A")]
    assert found[0].choices == COLOURS
    assert found[0].slide == f"{0:032x}"


def test_a_store_without_preferences_or_that_is_none_says_so(tmp_path):
    path = tmp_path / "feedback.sqlite"
    with pytest.raises(HwsiError, match="data_missing"):
        read_feedback(path)
    say(path, "right")
    with pytest.raises(HwsiError, match="names a better answer"):
        read_feedback(path)
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(HwsiError) as told:
        read_feedback(path)
    assert told.value.reason is Reason.DATA_INVALID


def test_a_verdict_is_one_of_three(tmp_path):
    say(tmp_path / "feedback.sqlite")
    with sqlite3.connect(tmp_path / "feedback.sqlite") as store, pytest.raises(sqlite3.IntegrityError):
        store.execute("UPDATE feedback SET verdict = 'perhaps'")


def test_prefer_learns_from_the_viewers_store(world, instructed, tmp_path):
    path = tmp_path / "feedback.sqlite"
    for i, name in enumerate(NAMES):
        say(
            path, slide_id=f"{i:032x}", patient_id=f"patient-{name}", answer=COLOURS[(i + 1) % 4], better=COLOURS[i % 4]
        )
    data = {"features": [world["job"]], "feedback": path, "val": 0.3}
    record = run_prefer(config_of("prefer", world, instructed, steps=2, data=data), tmp_path / "out")
    assert str(path) in record.data
    assert len((tmp_path / "out" / "feedback.jsonl").read_text().splitlines()) == len(NAMES)


# --- the simulated expert --------------------------------------------------------------------------------

JUDGED = st.builds(Judged, right=st.integers(0, 9), invented=st.integers(0, 9))


@given(JUDGED, JUDGED)
def test_less_invention_is_better_and_then_more_truth(a, b):
    best = better(a, b)
    assert best == (-1 if a == b else best)
    if best >= 0:
        assert better(b, a) == 1 - best
        won, lost = (a, b)[best], (a, b)[1 - best]
        assert won.invented < lost.invented or (won.invented == lost.invented and won.right > lost.right)


def test_two_answers_are_drawn_by_their_seed(tmp_path):
    from data_fakes import made_features

    from hwsi.model.scoring import prefill

    model, processor = tiny_model()
    prefix = prefill(model, processor, processor.prefix(made_features(0)))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = sample_two(model, processor, prefix, QUESTION, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == sample_two(model, processor, prefix, QUESTION, 3)
    assert first != sample_two(model, processor, prefix, QUESTION, 4)
    assert first[0] != first[1]


@pytest.mark.slow
def test_the_expert_ranks_answers_about_phantoms(tmp_path, monkeypatch):
    """With the true report against an empty one it prefers the truth; the pairs are sound preferences."""
    from data_fakes import made_features, write_job

    from hwsi.benchmarks.facts import facts_of, score
    from hwsi.phantom.cohort import write_cohort
    from hwsi.training.data.reading import read_records
    from hwsi.training.data.records import PreferenceRecord
    from hwsi.training.nano.cohort import read_cohort
    from hwsi.training.stages import expert

    write_cohort(tmp_path / "cohort", 2, seed=5, split="train", sides_um=(1024, 1024))
    slides = read_cohort(tmp_path / "cohort")
    job = write_job(tmp_path / "job", {s.name: made_features(i, name=s.name) for i, s in enumerate(slides)})
    model = write_former(tmp_path / "model", "instruct", *tiny_model())
    truths = iter([s.truth() for s in slides for _ in range(4)])

    def told(model, processor, prefix, question, seed):
        truth = next(truths)
        return "There is no tumour on this slide. Necrosis is present.", truth["report"]

    monkeypatch.setattr(expert, "sample_two", told)

    def judge(text, truth, label_of):
        found = score(text, facts_of(truth))
        return Judged(sum(found.found.values()), sum(found.invented.values()))

    out = tmp_path / "pairs.jsonl"
    done = expert.write_verdicts(model, tmp_path / "cohort", job, out, judge=judge, slides=2, questions=2, seed=0)
    assert done.asked == 8
    found = read_records(PreferenceRecord, out).records
    assert len(found) == done.pairs > 0
    reports = [p for p in found if p.question.startswith("Write the report")]
    assert reports
    assert all("tumour on this slide. Necrosis" in p.rejected for p in reports)
    assert np.all([p.patient and p.annotator for p in found])
