"""The stages on the released model's fusion: trained, converted to the release's layout, read back, the same."""

from itertools import pairwise

import pytest
import torch
from stage_fakes import config_of, losses, make_world, write_former

from hwsi.model import convert, load
from hwsi.training.data.rows import Collate
from hwsi.training.stages.instruct import gather_conversations, run_instruct
from hwsi.training.stages.prefer import run_prefer
from hwsi.training.stages.project import run_project
from hwsi.training.stages.run import make_ready
from hwsi.training.stages.trainer import answer_logits


@pytest.fixture(scope="module")
def released_world(tmp_path_factory, released_features):
    from stage_fakes import NAMES

    from hwsi.features import write_features

    folder = tmp_path_factory.mktemp("released")
    world = make_world(folder)
    for i, name in enumerate(NAMES):
        path = world["job"] / "features" / f"{name}.h5"
        path.unlink()
        write_features(path, released_features(i, slide_id=f"{i:032x}", slide_name=name))
    return world


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_release):
    return write_former(tmp_path_factory.mktemp("resample") / "align", "align", *tiny_release)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, released_world, start):
    """project, instruct (LoRA) and prefer."""
    folder = tmp_path_factory.mktemp("chain")
    run_project(config_of("project", released_world, start, steps=2), folder / "project")
    run_instruct(config_of("instruct", released_world, folder / "project", steps=3), folder / "instruct")
    prefer = config_of("prefer", released_world, folder / "instruct", steps=2, precompute=True)
    run_prefer(prefer, folder / "prefer")
    return folder


def test_the_chain_trains_every_part_in_its_turn(trained, start):
    names = [start / "model", *(trained / stage / "model" for stage in ("project", "instruct", "prefer"))]
    states = [dict(load(name)[0].state_dict()) for name in names]
    moved = [{n for n in a if not torch.equal(a[n], b[n])} for a, b in pairwise(states)]
    assert all(".visual." in name for name in moved[0])
    assert {"model.visual.resampler.queries", "model.visual.fusion.up.weight"} <= moved[0]
    assert any(".visual." in name for name in moved[1])
    assert any(".layers." in name for name in moved[1])
    assert all(".layers." in name for name in moved[2])


def test_a_trained_checkpoint_converted_and_read_back_answers_the_same(trained, released_world, tmp_path):
    from hwsi.training.data.store import FeatureStore

    assert convert(trained / "prefer" / "model", tmp_path / "released") == "released"
    assert convert(tmp_path / "released", tmp_path / "ours") == "ours"
    features = FeatureStore([released_world["job"]]).get("slide3")
    told = []
    for folder in (trained / "prefer" / "model", tmp_path / "released", tmp_path / "ours"):
        model, processor = load(folder)
        processor.system = ""
        inputs = processor("Which colour is it?", features)
        logits = model(**inputs).logits
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        told.append((logits, processor.decode(ids[0])))
    for logits, words in told[1:]:
        assert torch.equal(logits, told[0][0])
        assert words == told[0][1]


def test_logits_where_an_answer_is_learned_are_those_of_the_whole(start, released_world):
    ready = make_ready(config_of("instruct", released_world, start, former="external"), gather_conversations, None)
    model = ready.model.eval()
    batch = Collate(ready.processor)([ready.material.rows[i] for i in range(3)])
    logits, labels, columns = answer_logits(model, batch)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    whole = model(**inputs).logits[:, -batch["labels"].shape[1] :]
    assert torch.allclose(logits, whole[:, columns - 1], atol=1e-4)
    assert (labels >= 0).any(0).all()


def test_a_slides_loss_does_not_depend_on_its_batch_mates(start, released_world):
    ready = make_ready(config_of("instruct", released_world, start, former="external"), gather_conversations, None)
    collate, model = Collate(ready.processor), ready.model.eval()
    items = [ready.material.rows[i] for i in range(4)]
    together, labels, _ = answer_logits(model, collate(items))
    for i, item in enumerate(items):
        alone, own, _ = answer_logits(model, collate([item]))
        here = (labels[i] >= 0).nonzero()[:, 0]
        assert torch.equal(labels[i, here], own[0])
        # sums over other widths round otherwise, by the machine; what a mate says would be a hundred times as much
        assert torch.allclose(together[i, here], alone[0], atol=1e-3)


def test_the_loss_falls(trained):
    assert losses(trained / "project")[2] != losses(trained / "project")[1]
