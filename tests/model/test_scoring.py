"""Leaving out over the cached prefix, packed questions, generation with and without the cache."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fakes import make_slide

from hwsi.model import generate, prefill, score

QUESTION = "What is the histologic grade?"
MIXINGS = ["none", "hier", "full"]


def suffix(processor, question=QUESTION, answer="grade 2, see R1.P3"):
    return torch.tensor([processor.question(question) + processor.answer(answer)])


def deleted(model, processor, prefix, ids, stays):
    """Log-probs of the suffix when the tokens are physically gone and all others keep their positions."""
    size = len(prefix)
    row = prefix.row
    embeds = model.model.embed(row["input_ids"][None], _visual(processor, prefix), row["token_node"][None])
    embeds = torch.cat([embeds[:, stays], model.get_input_embeddings()(ids)], 1)
    node = torch.cat([row["token_node"][stays], torch.zeros_like(ids[0])])[None]
    segments = torch.cat([torch.zeros(int(stays.sum()), dtype=torch.int64), torch.ones_like(ids[0])])[None]
    positions = torch.cat([torch.arange(size)[stays], size + torch.arange(ids.shape[1])])[None]
    logits = model(
        inputs_embeds=embeds,
        token_node=node,
        node_parent=prefix.row["node_parent"][None],
        segment_ids=segments,
        position_ids=positions,
    ).logits[:, -ids.shape[1] :]
    logp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return torch.cat([torch.zeros(1, 1), logp], 1)


def _visual(processor, prefix):
    from hwsi.model.visual import VISUAL_INPUTS, VisualBatch

    batch = processor.pad([prefix.row])
    return VisualBatch(**{name: batch[name] for name in VISUAL_INPUTS})


def node_of(layout, scale, nth):
    return [i for i, node in enumerate(layout.nodes) if node.scale == scale][nth]


@pytest.mark.parametrize("scale", ["slide", "region", "patch", "cell"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.inference_mode()
def test_masking_over_the_cache_equals_deleting(nano, slide, scale, attention):
    differences = {}
    for mixing in MIXINGS:
        model, processor = nano[mixing]
        model.set_attn_implementation(attention)
        prefix, ids = processor.prefix(slide), suffix(processor)
        cache = prefill(model, processor, prefix)
        stays = cache.without(node_of(prefix.layout, scale, 0))
        got = score(model, cache, ids, keep=stays)
        effect = (score(model, cache, ids) - got).abs().max()
        assert effect > 1e-3, "the model must look, or the test says nothing"
        differences[mixing] = (got - deleted(model, processor, prefix, ids, stays)).abs().max()
        model.set_attn_implementation("sdpa")
    assert differences["none"] < 1e-4
    assert differences["hier"] < 1e-4
    # the last tokens of a prefix were read by nobody; every other branch leaks under full mixing
    if scale != "slide":
        assert differences["full"] > 1e-3


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), mixing=st.sampled_from(["none", "hier"]))
@torch.inference_mode()
def test_any_set_of_nodes_can_be_left_out(nano, data, seed, mixing):
    model, processor = nano[mixing]
    prefix = processor.prefix(make_slide(seed, regions=1 + seed % 3, side=1 + seed % 4))
    nodes = st.integers(1, len(prefix.layout.nodes) - 1)
    cache, ids = prefill(model, processor, prefix), suffix(processor)
    stays = cache.without(*data.draw(st.sets(nodes)))
    got = score(model, cache, ids, keep=stays)
    torch.testing.assert_close(got, deleted(model, processor, prefix, ids, stays), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_leaving_out_all_tissue_equals_having_none(nano, slide):
    model, processor = nano["hier"]
    cache = prefill(model, processor, processor.prefix(slide))
    ids = suffix(processor)
    stays = cache.without(1)
    assert torch.equal(stays, cache.without_slide())
    want = deleted(model, processor, processor.prefix(slide), ids, stays)
    torch.testing.assert_close(score(model, cache, ids, keep=stays), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mixing", MIXINGS)
@torch.inference_mode()
def test_scores_over_the_cache_are_those_of_a_full_pass(nano, slide, mixing):
    model, processor = nano[mixing]
    cache = prefill(model, processor, processor.prefix(slide))
    dialogue = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "grade 2, see R1.P3"}]
    row = processor.encode(slide, [dialogue])
    logits = model(**processor.pad([row])).logits[0, len(cache) - 1 : -1]
    ids = row["input_ids"][len(cache) :]
    want = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    got = score(model, cache, ids[None])[0]
    assert got[0] == 0
    torch.testing.assert_close(got[1:], want[1:], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_scores_do_not_depend_on_batching_and_the_cache_is_never_written(nano, slide):
    model, processor = nano["hier"]
    cache = prefill(model, processor, processor.prefix(slide))
    before = [layer.keys.clone() for layer in cache.past.layers]
    a, b = suffix(processor), suffix(processor, answer="no")
    ids = torch.zeros(2, a.shape[1], dtype=torch.int64)
    ids[0], ids[1, : b.shape[1]] = a[0], b[0]
    mask = torch.arange(a.shape[1])[None] < torch.tensor([[a.shape[1]], [b.shape[1]]])
    keep = torch.stack([cache.without(2), cache.without(3)])
    together = score(model, cache, ids, mask, keep)
    for size in (1, 2):
        torch.testing.assert_close(score(model, cache, ids, mask, keep, batch_size=size), together, atol=1e-5, rtol=0)
    torch.testing.assert_close(score(model, cache, a, keep=keep[0])[0], together[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(score(model, cache, b, keep=keep[1])[0], together[1, : b.shape[1]], atol=1e-5, rtol=0)
    assert not together[1, b.shape[1] :].any()
    many = score(model, cache, a, keep=keep)  # one suffix, many left-out sets
    assert many.shape == (2, a.shape[1])
    torch.testing.assert_close(many[0], together[0], atol=1e-5, rtol=0)
    generate(model, cache, [processor.question("Why?")], max_new_tokens=3)
    assert len(cache) == cache.past.get_seq_length()
    assert all(torch.equal(x, layer.keys) for x, layer in zip(before, cache.past.layers, strict=True))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_packed_questions_read_as_alone(nano, slide, mixing):
    model, processor = nano[mixing]
    dialogues = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        for q, a in [(QUESTION, "grade 2"), ("Are there mitoses?", "Yes, see R2."), ("Why?", "no")]
    ]
    prefix = processor.prefix(slide)
    packed = processor.encode(prefix, dialogues)
    with torch.inference_mode():
        together = model(**processor.pad([packed])).logits[0]
    for number, dialogue in enumerate(dialogues, start=1):
        row = processor.encode(prefix, [dialogue])
        with torch.inference_mode():
            alone = model(**processor.pad([row])).logits[0, len(prefix) :]
        here = packed["segment_ids"] == number
        torch.testing.assert_close(together[here], alone, atol=1e-4, rtol=0)
        assert torch.equal(packed["labels"][here], row["labels"][len(prefix) :])


@pytest.mark.parametrize("mixing", MIXINGS)
def test_generation_with_and_without_the_cache(nano, slide, mixing):
    model, processor = nano[mixing]
    questions = [QUESTION, "Are there mitoses in this tissue?", "Why?"]
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cache = prefill(model, processor, processor.prefix(slide))
    together = generate(model, cache, [processor.question(q) for q in questions], **options)
    for question, row in zip(questions, together, strict=True):
        inputs = processor(question, slide)
        whole = model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        slow = model.generate(**inputs, **options, use_cache=False)[0, inputs["input_ids"].shape[1] :]
        assert torch.equal(whole, row)
        assert torch.equal(slow, row)
    assert len({tuple(row.tolist()) for row in together}) > 1


def test_generation_under_a_mask_keeps_positions(nano, slide):
    """Transformers renumbers by the mask when left alone; then the words left over move closer together."""
    model, processor = nano["hier"]
    cache = prefill(model, processor, processor.prefix(slide))
    stays = cache.without(node_of(cache.layout, "region", 0))
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "output_logits": True}
    options["return_dict_in_generate"] = True
    inputs = processor(QUESTION, slide)
    inputs["attention_mask"][0, : len(cache)] = stays.long()
    given = model.generate(**inputs, **options)
    del inputs["position_ids"]
    unsaid = model.generate(**inputs, **options)
    got = generate(model, cache, [processor.question(QUESTION)], keep=stays, max_new_tokens=8, min_new_tokens=8)
    assert torch.equal(given.sequences[:, -8:], got)
    for a, b in zip(given.logits, unsaid.logits, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    answer = torch.tensor([processor.question(QUESTION) + got[0].tolist()])
    scored = score(model, cache, answer, keep=stays)[0, -8:]
    steps = torch.stack([logit[0].log_softmax(-1)[t] for logit, t in zip(given.logits, got[0], strict=True)])
    torch.testing.assert_close(scored, steps, atol=1e-4, rtol=0)
