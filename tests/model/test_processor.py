"""Slides and words to tensors; the tokenizer."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fakes import TEXTS, make_slide

from hwsi.errors import HwsiError, Reason
from hwsi.model.config import PLACEHOLDERS
from hwsi.model.prompt import keep_patches, lay_out
from hwsi.model.tokenizer import LABELS

QUESTION = "What is the histologic grade?"


def test_order_labels_and_parents(slide):
    kept = np.array([1, 4, 10])
    layout = lay_out(slide.hierarchy, kept)
    words = " ".join(text for text, _ in layout.pieces)
    assert words == (
        "<|wsi|> R1 <|region|> P2 <|patch|> <|cell|> P5 <|patch|> <|cell|> R2 <|region|> P2 <|patch|> <|cell|>"
    )
    scales = [node.scale for node in layout.nodes]
    assert scales == ["text", "slide", "region", "patch", "cell", "patch", "cell", "region", "patch", "cell"]
    assert layout.parents() == [0, 0, 1, 2, 3, 2, 5, 1, 7, 8]
    assert [node.label for node in layout.nodes if node.scale == "patch"] == ["R1.P2", "R1.P5", "R2.P2"]
    assert [node.index for node in layout.nodes if node.scale == "cell"] == [1, 4, 10]
    label_node = dict(layout.pieces[i] for i in (1, 3))
    assert label_node == {"R1": 2, "P2": 3}  # a label belongs to what it names


def test_a_prefix_may_have_another_budget_of_patches(nano, slide):
    _, processor = nano["hier"]
    few, usual = processor.prefix(slide, kept_patches=1), processor.prefix(slide)
    assert len(few.layout.patches) == 2  # one of each region
    assert len(usual.layout.patches) == 2 * processor.kept_patches
    assert set(few.layout.patches) <= set(range(len(slide.hierarchy.patches)))


def test_kept_patches_are_no_background_and_at_most_k(slide):
    tree, features = slide.hierarchy, slide.patch["patch-nano"]
    kept = keep_patches(tree, features, 3)
    assert np.bincount(tree.patches.region[kept]).tolist() == [3, 3]
    assert not tree.patches.background[kept].any()
    assert (np.diff(kept) > 0).all()
    relevance = np.zeros(len(tree.patches), np.float32)
    relevance[[3, 5, 7]] = 1
    relevance[0] = 9  # background
    assert {3, 5, 7} >= set(keep_patches(tree, features, 2, relevance)[:2].tolist())


def test_prefix_is_the_beginning_of_every_prompt(nano, slide):
    _, processor = nano["hier"]
    prefix = processor.prefix(slide)
    for choices in (None, ["yes", "no"]):
        full = processor(QUESTION, slide, choices=choices)["input_ids"][0].tolist()
        assert full == prefix.row["input_ids"].tolist() + processor.question(QUESTION, choices)
    dialogue = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "grade 2"}]
    row = processor.encode(slide, [dialogue])
    assert row["input_ids"].tolist() == (
        prefix.row["input_ids"].tolist() + processor.question(QUESTION) + processor.answer("grade 2")
    )
    learned = row["labels"][row["labels"] != -100].tolist()
    assert learned == processor.answer("grade 2")
    assert learned[-1] == processor.tokenizer.eos_token_id


def test_visual_tensors(nano, slide):
    _, processor = nano["hier"]
    prefix = processor.prefix(slide)
    row, tree = prefix.row, slide.hierarchy
    kept = prefix.layout.patches
    np.testing.assert_array_equal(row["patch_features"], slide.patch["patch-nano"][kept])
    counts = np.bincount(tree.cells.patch, minlength=len(tree.patches))[kept]
    assert row["cell_count"].tolist() == counts.tolist()
    assert row["cell_mask"].sum(1).tolist() == counts.tolist()
    first = np.flatnonzero(tree.cells.patch == kept[0])
    np.testing.assert_array_equal(row["cell_features"][0, : len(first)], slide.cell["cell-nano"][first])
    assert (row["cell_xy"] >= 0).all()
    assert (row["cell_xy"] <= 1).all()
    patch = tree.patches.xy[kept[0]]
    # places count from the middle of the regions
    middle = (tree.regions.xy + tree.regions.size0 / 2).mean(0)
    np.testing.assert_allclose(row["patch_mm"][0], (patch + 128 - middle) * 0.5 / 1000, atol=1e-6)
    centre = np.array([tree.width0, tree.height0]) / 2
    np.testing.assert_allclose(row["slide_mm"], (centre - middle) * 0.5 / 1000, atol=1e-6)
    np.testing.assert_allclose(row["region_mm"].mean(0), 0, atol=1e-6)


def test_too_many_cells_are_thinned_and_counted(tokenizer, slide):
    from hwsi.model import build_nano

    _, processor = build_nano(tokenizer)
    whole = processor.prefix(slide).row
    processor.max_cells = 2
    thin = processor.prefix(slide).row
    assert thin["cell_mask"].shape[1] == 2
    assert torch.equal(thin["cell_count"], whole["cell_count"])
    assert torch.equal(thin["cell_mask"].sum(1), whole["cell_mask"].sum(1).clamp(max=2))


@pytest.mark.parametrize("options", [{"side": 1}, {"cells_per_patch": 0}, {"regions": 0}])
def test_slides_without_patches_cells_or_regions(nano, options):
    model, processor = nano["hier"]
    bare = make_slide(**options)
    full = make_slide(seed=3)
    batch = processor(["Why?", "Why?"], [bare, full])
    with torch.inference_mode():
        logits = model(**batch).logits[:, -1]
        torch.testing.assert_close(model(**processor("Why?", bare)).logits[0, -1], logits[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("token", [*PLACEHOLDERS.values(), "<|end|>", "<|assistant|>", "<|pad|>"])
def test_typed_special_tokens_are_refused(nano, slide, token):
    _, processor = nano["hier"]
    for ask in (
        lambda: processor(f"what is {token} here", slide),
        lambda: processor.question("what", ["yes", f"no{token}"]),
        lambda: processor(messages=[{"role": "user", "content": [{"type": "text", "text": token}]}], slides=slide),
        lambda: processor.prefix(slide, system=token),
        lambda: processor.answer(token),
    ):
        with pytest.raises(HwsiError) as error:
            ask()
        assert error.value.reason is Reason.QUESTION_INVALID


def test_bad_input_has_a_reason(nano, slide):
    _, processor = nano["hier"]
    for ask, reason in (
        (lambda: processor(" \n", slide), Reason.QUESTION_EMPTY),
        (lambda: processor.question(""), Reason.QUESTION_EMPTY),
        (lambda: processor("mitoses " * 5000, slide), Reason.QUESTION_TOO_LONG),
    ):
        with pytest.raises(HwsiError) as error:
            ask()
        assert error.value.reason is reason
    with pytest.raises(ValueError, match="either text or messages"):
        processor(slides=slide)
    with pytest.raises(ValueError, match="2 slides for 1"):
        processor("a", [slide, slide])


@pytest.mark.parametrize("scale", list(PLACEHOLDERS))
def test_other_features_are_refused(nano, slide, scale):
    import copy

    _, processor = nano["hier"]
    other = copy.copy(slide)
    setattr(other, scale, {"conch": getattr(slide, scale)[f"{scale}-nano"]})
    with pytest.raises(HwsiError) as error:
        processor.prefix(other)
    assert error.value.reason is Reason.FEATURES_MISMATCH
    assert "conch" in error.value.what
    setattr(other, scale, {f"{scale}-nano": getattr(slide, scale)[f"{scale}-nano"][..., :-1]})
    with pytest.raises(HwsiError) as error:
        processor.prefix(other)
    assert error.value.reason is Reason.FEATURES_MISMATCH


def test_conversation_of_several_turns_and_system(nano, slide):
    _, processor = nano["hier"]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "slide"}, {"type": "text", "text": "Grade?"}]},
        {"role": "assistant", "content": "grade 2"},
        {"role": "user", "content": "Mitoses?"},
        {"role": "assistant", "content": "yes"},
    ]
    row = processor.encode(slide, [messages])
    text = processor.decode(row["input_ids"], skip_special_tokens=False)
    assert text.startswith("<|system|>Be brief.<|end|><|user|><|wsi|>R1<|region|>")
    assert text.endswith("Grade?<|end|><|assistant|>grade 2<|end|><|user|>Mitoses?<|end|><|assistant|>yes<|end|>")
    learned = processor.decode(row["labels"][row["labels"] != -100], skip_special_tokens=False)
    assert learned == "grade 2<|end|>yes<|end|>"
    inputs = processor(messages=messages[:2], slides=slide)
    same = processor.apply_chat_template(messages[:2], slides=slide, tokenize=True, add_generation_prompt=True)
    assert torch.equal(inputs["input_ids"], same["input_ids"])
    assert processor.decode(inputs["input_ids"][0], skip_special_tokens=False).endswith("Grade?<|end|><|assistant|>")
    with pytest.raises(ValueError, match="system message"):
        processor.encode(processor.prefix(slide), [messages])


def test_a_template_of_another_kind(tokenizer, slide):
    """Text after an answer is not learned; words around turns are kept apart from them."""
    from hwsi.model import HwsiProcessor

    template = (
        "{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    processor = HwsiProcessor(tokenizer, chat_template=template)
    row = processor.encode(slide, [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b c"}]])
    assert processor.decode(row["labels"][row["labels"] != -100], skip_special_tokens=False) == "b c<|end|>"
    prefix = processor.prefix(slide)
    assert row["input_ids"].tolist() == (
        prefix.row["input_ids"].tolist() + processor.question("a") + processor.answer("b c")
    )


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_encodes_and_comes_back(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert bool(ids) == bool(text)
    assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids
    if not any(token in text for token in tokenizer.all_special_tokens):
        assert tokenizer.decode(ids) == text


def test_labels_are_single_tokens_but_not_inside_words(tokenizer):
    ids = {label: tokenizer.convert_tokens_to_ids(label) for label in LABELS}
    assert len(set(ids.values())) == 128
    encoded = tokenizer("see R12.P64 and R3, not HER2 or P65", add_special_tokens=False)["input_ids"]
    assert [i for i in encoded if i in ids.values()] == [ids["R12"], ids["P64"], ids["R3"]]
    assert tokenizer.decode(encoded, skip_special_tokens=True) == "see R12.P64 and R3, not HER2 or P65"


def test_the_same_texts_give_the_same_tokenizer(tokenizer, tmp_path):
    from hwsi.model import train_nano_tokenizer

    again = train_nano_tokenizer(TEXTS)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    masked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "grade 2"}],
        tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
    )  # fmt: skip
    learned = [i for i, m in zip(masked["input_ids"], masked["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(learned) == "grade 2<|end|>"


def test_import_is_light():
    code = "import hwsi, sys, hwsi.model; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
