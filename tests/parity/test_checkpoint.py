"""The release's checkpoint folder, loaded by name, against what the authors' code does with it."""

import numpy as np
import pytest
import torch
from golden import GOLDEN, golden, relative, skip

from hwsi import load
from hwsi.features.released import Quadruplet
from hwsi.model.pooled_alignment import consistency, contrastive, text_vectors
from hwsi.model.released import released_names
from hwsi.model.resample import RESAMPLE_INPUTS, ResampleBatch

pytestmark = skip
NAMES = {"slide": "wsi", "region": "region", "patch": "patch", "cell": "cell"}
MASKS = ("region_mask", "patch_mask", "cell_mask")


def error(ours, theirs):
    return relative(ours.detach(), theirs.reshape(ours.shape))


@pytest.fixture(scope="module")
def case():
    tensors, about = golden("02_mllm")
    return tensors, about, *load(GOLDEN / "02_checkpoint")


@pytest.fixture
def released(case):
    """The processor as the release has it at inference: no masks."""
    processor = case[3]
    processor.masking = "none"
    yield processor
    processor.masking = "masked"


def quadruplet(tensors, which, row=0):
    return Quadruplet(**{ours: tensors[f"{which}.{theirs}"][row].numpy() for ours, theirs in NAMES.items()})


def question(case, released):
    tensors, about, _, _ = case
    return released(about["prompt"], quadruplet(tensors, "gen"))


def test_prompt(case, released):
    tensors, about, _, _ = case
    assert released.prompt(about["prompt"]) == about["chat_prompt"]
    assert torch.equal(question(case, released)["input_ids"], tensors["gen.prompt_ids"])


@torch.inference_mode()
def test_embeddings_and_first_logits(case, released):
    tensors, _, model, _ = case
    inputs = question(case, released)
    batch = ResampleBatch(**{name: inputs.get(name) for name in RESAMPLE_INPUTS})
    tokens = model.model.visual(batch)
    assert error(tokens, tensors["gen.slide_tokens"]) < 5e-6
    embeds, mask = model.model.prepend(tokens, inputs["input_ids"], inputs["attention_mask"])
    assert error(embeds, tensors["gen.inputs_embeds"]) < 5e-6
    assert mask.all()
    assert error(model(**inputs).logits[:, -1], tensors["gen.first_logits"]) < 1e-5


@pytest.mark.parametrize("run", ["greedy", "greedy_rep", "beam3"])
def test_answers_are_theirs_to_the_token(case, released, run):
    tensors, about, model, _ = case
    told = about["runs"][run]
    options = {"return_dict_in_generate": True, "output_logits": True, **told["kwargs"]}
    made = model.generate(**question(case, released), **options)
    assert torch.equal(made.sequences, tensors[f"{run}.ids"])
    assert released.decode(made.sequences[0]) == told["text"]
    if f"{run}.step_logits" in tensors:
        assert error(torch.stack(made.logits, 1), tensors[f"{run}.step_logits"]) < 1e-5


def test_masked_answer(case):
    """Their masks, handed over: what an absent patch says is gone."""
    tensors, _, model, processor = case
    held = {name: tensors[f"greedy_masked.{name.replace('patch', 'cell')}"].bool() for name in MASKS}
    inputs = {**processor(case[1]["prompt"], quadruplet(tensors, "gen")), **held}
    options = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False, "max_new_tokens": 24}
    made = model.generate(**inputs, **options)
    assert torch.equal(made.sequences, tensors["greedy_masked.ids"])
    assert error(made.logits[0], tensors["greedy_masked.first_logits"]) < 1e-5
    assert not torch.equal(made.sequences, tensors["greedy.ids"])


def test_masks_are_read_off_the_features(case):
    """Zeros where their masks hide: the default gives the masked answer by itself."""
    tensors, about, model, processor = case
    region, cell = (tensors[f"greedy_masked.{name}"][0].bool().numpy() for name in ("region_mask", "cell_mask"))
    there = (cell & region[:, None])[..., None]
    full = quadruplet(tensors, "gen")
    hidden = Quadruplet(full.slide, full.region, np.where(there, full.patch, 0), np.where(there, full.cell, 0))
    made = model.generate(**processor(about["prompt"], hidden), do_sample=False, max_new_tokens=24)
    assert torch.equal(made, tensors["greedy_masked.ids"])


# --- training ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(case):
    """Our batch of their two items; the words that they put around a question are read off their embeddings."""
    tensors, about, model, processor = case
    words = model.get_input_embeddings().weight
    rows = []
    for i, item in enumerate(about["train_items"]):
        n = int(tensors["train.attention_mask"][i].sum())
        ids = torch.cdist(tensors["train.inputs_embeds"][i, model.config.queries : n], words).argmin(1)
        text = processor.tokenizer.decode(ids)
        asked = text.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
        assert item["question"] in asked
        r = item["R"]
        held = quadruplet(tensors, "train", i)
        held = Quadruplet(held.slide, held.region[:r], held.patch[:r], held.cell[:r])
        rows.append(processor.encode(held, asked, answer=item["answer"]))
    return processor.pad(rows)


def test_collated_batch(case, training):
    tensors, _, model, _ = case
    for ours, theirs in NAMES.items():
        assert torch.equal(training[f"{ours}_features"], tensors[f"train.{theirs}"])
    assert torch.equal(training["region_mask"], tensors["train.region_mask"].bool())
    for name in ("patch_mask", "cell_mask"):
        assert torch.equal(training[name], tensors["train.cell_mask"].bool())
    q = model.config.queries
    assert torch.equal(training["labels"], tensors["train.labels"][:, q:])
    assert (tensors["train.labels"][:, :q] == -100).all()
    assert torch.equal(training["attention_mask"], tensors["train.attention_mask"][:, q:])


def test_losses_and_gradients(case, training):
    tensors, about, model, processor = case
    told = about["losses"]
    model.zero_grad(set_to_none=True)
    batch = ResampleBatch(**{name: training[name] for name in RESAMPLE_INPUTS})
    tokens = model.model.visual(batch, padding_counts=True)
    assert error(tokens, tensors["train.slide_tokens"]) < 5e-6
    visual = model.model.visual.pooled(batch)
    text = text_vectors(
        model.get_input_embeddings(), processor.tokenizer, [item["answer"] for item in about["train_items"]]
    )
    for ours, theirs in NAMES.items():
        assert error(visual[ours], tensors[f"train.visual.{theirs}"]) < 5e-6
        assert error(text[ours], tensors[f"train.text.{theirs}"]) < 5e-6
    embeds, mask = model.model.prepend(tokens, training["input_ids"], training["attention_mask"])
    # they pad words with zeros, we with the padding token; nobody sees either
    assert error(embeds * mask[..., None], tensors["train.inputs_embeds"]) < 5e-6
    out = model(inputs_embeds=embeds, attention_mask=mask, labels=training["labels"])
    contrast, parts = contrastive(visual, text, told["temperature"])
    drawn, pairs = consistency(visual)
    weights = [told[f"lambda_{name}"] for name in ("lm", "contrastive", "consistency")]
    total = sum(w * x for w, x in zip(weights, (out.loss, contrast, drawn), strict=True))
    for ours, theirs in ((out.loss, "lm"), (contrast, "contrastive"), (drawn, "consistency"), (total, "total")):
        assert ours.item() == pytest.approx(told[theirs], rel=1e-5), theirs
    for scale, value in parts.items():
        assert value.item() == pytest.approx(told[f"contrast_{NAMES[scale]}"], rel=1e-5)
    for (child, parent), value in pairs.items():
        assert value.item() == pytest.approx(told[f"cons_{NAMES[child]}_{NAMES[parent]}"], rel=1e-5)
    total.backward()
    names = released_names(model.config.projector)
    grads = {names[name]: p.grad for name, p in model.model.visual.named_parameters()}
    assert {f"grad.{name}" for name in grads} == {name for name in tensors if name.startswith("grad.")}
    worst = max((error(grad, tensors[f"grad.{name}"]), name) for name, grad in grads.items())
    assert worst[0] < 1e-4, worst
    model.zero_grad(set_to_none=True)


@torch.inference_mode()
def test_training_logits(case, training):
    tensors, _, model, _ = case
    batch = ResampleBatch(**{name: training[name] for name in RESAMPLE_INPUTS})
    tokens = model.model.visual(batch, padding_counts=True)
    embeds, mask = model.model.prepend(tokens, training["input_ids"], training["attention_mask"])
    logits = model(inputs_embeds=embeds * mask[..., None], attention_mask=mask).logits
    # the last 20 positions, of the second row all padding
    assert error(logits[:, -20:], tensors["train.logits_at_labels_head"]) < 1e-5
