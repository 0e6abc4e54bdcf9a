"""The model as a Hugging Face citizen."""

import json
import shutil

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlamaConfig,
)

from hwsi.errors import HwsiError, Reason
from hwsi.model import (
    HwsiConfig,
    HwsiForConditionalGeneration,
    HwsiModel,
    HwsiVisualConfig,
    from_language_model,
    generate,
    load,
    load_strict,
    prefill,
)
from hwsi.model.config import PLACEHOLDERS
from hwsi.model.visual import VISUAL_INPUTS, VisualBatch

QUESTION = "What is the histologic grade?"
OPTIONS = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def new_ids(model, inputs, **options):
    return model.generate(**inputs, **{**OPTIONS, **options})[:, inputs["input_ids"].shape[1] :]


@pytest.fixture(scope="module")
def saved(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    model, processor = nano["hier"]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_size_of_nano(tokenizer):
    from hwsi.model import nano_config

    config = nano_config(tokenizer)
    with torch.device("meta"):
        model = HwsiForConditionalGeneration(config)
    words = len(tokenizer) * 256
    inside = sum(p.numel() for p in model.model.language_model.parameters()) - words
    assert inside + 1500 * 256 == pytest.approx(2.8e6, rel=0.05)
    assert sum(p.numel() for p in model.parameters()) < 4.2e6  # 8.4 MB in half precision


def test_batches_with_padding_equal_single_rows(nano, slide, other_slide):
    model, processor = nano["hier"]
    questions = [QUESTION, "Are there many mitoses in this tissue?", "Why?"]
    slides = [slide, other_slide, None]
    batch = processor(questions, slides)
    assert (batch["attention_mask"][:, 0] == 0).any()
    together = new_ids(model, batch)
    with torch.inference_mode():
        logits = model(**batch).logits[:, -1]
    for i, (question, one) in enumerate(zip(questions, slides, strict=True)):
        inputs = processor(question, one)
        assert torch.equal(new_ids(model, inputs)[0], together[i])
        with torch.inference_mode():
            torch.testing.assert_close(model(**inputs).logits[0, -1], logits[i], atol=1e-4, rtol=0)


def test_visual_tokens_carry_the_words_of_their_label(nano, slide, other_slide, monkeypatch):
    model, processor = nano["hier"]
    inputs = processor.pad(
        [processor.encode(s, [[{"role": "user", "content": QUESTION}]]) for s in (slide, other_slide)]
    )
    visual = VisualBatch(**{name: inputs[name] for name in VISUAL_INPUTS})
    ids, nodes = inputs["input_ids"], inputs["token_node"]
    with torch.no_grad():
        monkeypatch.setattr(model.config, "label_scale", 0.0)
        before = model.model.embed(ids, visual, nodes)
        monkeypatch.setattr(model.config, "label_scale", 2.0)
        added = model.model.embed(ids, visual, nodes) - before
        words = model.get_input_embeddings()(ids)
    placeholder = {scale: ids == processor.tokenizer.convert_tokens_to_ids(t) for scale, t in PLACEHOLDERS.items()}
    for here in placeholder.values():
        torch.testing.assert_close(before[here].norm(dim=-1), torch.full((int(here.sum()),), model.config.token_norm))
    named = placeholder["region"] | placeholder["patch"]
    assert named.sum() > 10
    assert torch.equal(added.abs().sum(-1) > 0, named)
    for row, at in named.nonzero().tolist():  # a label of one word stands before its token
        label = words[row, [i for i in range(at) if nodes[row, i] == nodes[row, at]]].mean(0)
        torch.testing.assert_close(added[row, at], 2 * label)
    with pytest.raises(ValueError, match="token_node"):
        model.model.embed(ids, visual)


def test_right_padding_gives_the_same_loss(nano, slide, other_slide):
    model, processor = nano["hier"]
    rows = [
        processor.encode(s, [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "because " * n}]])
        for s, n in ((slide, 1), (other_slide, 9))
    ]
    with torch.inference_mode():
        losses = [model(**processor.pad([row])).loss for row in rows]
        counts = torch.tensor([(row["labels"] != -100).sum() for row in rows])
        for side in ("right", "left"):
            batch = processor.pad(rows, side=side)
            want = (torch.stack(losses) * counts).sum()
            torch.testing.assert_close(model(**batch).loss, want / counts.sum(), atol=1e-4, rtol=0)
            # a trainer's own number of tokens: the sum over it
            torch.testing.assert_close(model(**batch, num_items_in_batch=100).loss, want / 100, atol=1e-4, rtol=0)


def test_beams_and_returned_sequences_keep_their_slide(nano, slide, other_slide):
    model, processor = nano["hier"]
    batch = processor([QUESTION, "Why?"], [slide, other_slide])
    together = new_ids(model, batch, num_beams=3, num_return_sequences=2)
    apart = [
        new_ids(model, processor(q, s), num_beams=3, num_return_sequences=2)
        for q, s in ((QUESTION, slide), ("Why?", other_slide))
    ]
    assert torch.equal(together, torch.cat(apart))
    swapped = new_ids(model, processor([QUESTION, "Why?"], [other_slide, slide]), num_beams=3)
    assert not torch.equal(together[::2], swapped)
    torch.manual_seed(0)
    sampled = new_ids(model, batch, do_sample=True, num_return_sequences=2)
    assert sampled.shape == (4, 6)


def test_the_slide_is_read_once(nano, slide, monkeypatch):
    model, processor = nano["hier"]
    calls = []
    forward = model.model.visual.forward
    monkeypatch.setattr(model.model.visual, "forward", lambda v: calls.append(1) or forward(v))
    new_ids(model, processor(QUESTION, slide))
    assert calls == [1]


def test_eager_and_sdpa_agree(nano, slide):
    model, processor = nano["hier"]
    inputs = processor(QUESTION, slide)
    logits = {}
    for name in ("eager", "sdpa"):
        model.set_attn_implementation(name)
        with torch.inference_mode():
            logits[name] = model(**inputs).logits
    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=1e-4, rtol=0)


def test_positions_without_a_mask_are_no_packed_sequences(nano):
    """Transformers takes a jump in position ids without a mask for another sequence."""
    model, _ = nano["hier"]
    ids, positions = torch.arange(20, 30)[None], torch.tensor([[0, 1, 2, 7, 8, 9, 20, 21, 22, 23]])
    with torch.inference_mode():
        with_mask = model(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits
        torch.testing.assert_close(model(input_ids=ids, position_ids=positions).logits, with_mask)


def test_gradient_checkpointing_changes_nothing(nano, slide):
    model, processor = nano["hier"]
    row = processor.encode(slide, [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "no"}]])
    grads = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()
        model.zero_grad()
        model(**processor.pad([row])).loss.backward()
        grads.append(model.model.visual.ccaf.cls.grad.clone())
    model.gradient_checkpointing_disable()
    model.eval().zero_grad(set_to_none=True)
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(*grads)


def test_saved_and_loaded_bit_for_bit(nano, slide, saved):
    model, processor = nano["hier"]
    loaded, loaded_processor = load(saved)
    assert isinstance(loaded, HwsiForConditionalGeneration)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    mine, theirs = model.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    a, b = processor(QUESTION, slide), loaded_processor(QUESTION, slide)
    assert all(torch.equal(a[key], b[key]) for key in a)
    with torch.inference_mode():
        # the same weights elsewhere in memory: kernels may round the last bit differently
        torch.testing.assert_close(model(**a).logits, loaded(**b).logits, atol=1e-5, rtol=1e-5)
    for name in (
        "fusion",
        "visual_mixing",
        "kept_patches",
        "placeholder_ids",
        "pad_token_id",
        "eos_token_id",
    ):
        assert getattr(loaded.config, name) == getattr(model.config, name)
    for name in ("dims", "encoders", "max_cells", "fourier_bands", "width"):
        assert getattr(loaded.config.visual_config, name) == getattr(model.config.visual_config, name)
    assert loaded.config.text_config.rope_parameters == model.config.text_config.rope_parameters


def test_half_precision_on_disk_is_loaded_as_float32(nano, tmp_path):
    model, _ = nano["hier"]
    half = HwsiForConditionalGeneration(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(tmp_path)
    loaded = load_strict(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    weight = loaded.lm_head.weight
    assert torch.equal(weight, model.lm_head.weight.half().float())


def test_auto_classes(saved):
    assert isinstance(AutoConfig.from_pretrained(saved), HwsiConfig)
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
        assert isinstance(auto.from_pretrained(saved), HwsiForConditionalGeneration)
    base = AutoModel.from_pretrained(saved)
    assert isinstance(base, HwsiModel)
    assert base(input_ids=torch.tensor([[20, 21]])).last_hidden_state.shape == (1, 2, 256)
    assert type(AutoProcessor.from_pretrained(saved)).__name__ == "HwsiProcessor"


def _damage(folder, change):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: [w.pop(f"model.visual.{k}") for k in ("ccaf.cls", "place.out.bias")],
         ["missing", "ccaf.cls", "place.out.bias"]),
        (lambda w: w.update({"model.visual.more": torch.zeros(1)}), ["unexpected", "visual.more"]),
        (lambda w: w.update({"model.visual.ccaf.cls": torch.zeros(3)}), ["mismatched", "ccaf.cls"]),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_name(saved, tmp_path, change, words, capfd):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    _damage(folder, change)
    with pytest.raises(HwsiError) as error:
        load_strict(folder)
    assert error.value.reason is Reason.WEIGHTS_MISMATCH
    assert all(word in error.value.what for word in words)
    assert capfd.readouterr().err == ""  # the error says it all


def test_broken_folders_have_a_reason(saved, tmp_path):
    with pytest.raises(HwsiError) as error:
        load(tmp_path / "nowhere")
    assert error.value.reason is Reason.PRESET_UNKNOWN
    with pytest.raises(HwsiError) as error:
        load_strict(tmp_path)
    assert error.value.reason is Reason.WEIGHTS_MISSING
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(HwsiError) as error:
        load_strict(tmp_path)
    assert error.value.reason is Reason.WEIGHTS_MISMATCH
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(HwsiError) as error:
        load_strict(tmp_path)
    assert error.value.reason is Reason.WEIGHTS_MISMATCH
    cut = tmp_path / "cut"
    shutil.copytree(saved, cut)
    (cut / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(HwsiError) as error:
        load_strict(cut)
    assert error.value.reason is Reason.WEIGHTS_MISMATCH
    (cut / "model.safetensors").unlink()
    with pytest.raises(HwsiError) as error:
        load_strict(cut)
    assert error.value.reason is Reason.WEIGHTS_MISSING


def test_another_language_model_untied(nano, tokenizer, slide, tmp_path):
    _, processor = nano["hier"]
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    ids = {scale: tokenizer.convert_tokens_to_ids(token) for scale, token in PLACEHOLDERS.items()}
    torch.manual_seed(0)
    model = HwsiForConditionalGeneration(HwsiConfig(text, placeholder_ids=ids)).eval()
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    loaded = load_strict(tmp_path)
    mine, theirs = model.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    inputs = processor(QUESTION, slide)
    assert new_ids(loaded, inputs).shape == (1, 6)
    model.resize_token_embeddings(len(tokenizer) + 8)
    assert model.config.text_config.vocab_size == len(tokenizer) + 8
    labelled = processor.encode(slide, [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]])
    assert torch.isfinite(model(**processor.pad([labelled])).loss)


def _language_model(folder, tokenizer, *, template=True, spare=0, tied=False):
    """A small Llama with random weights and a tokenizer without our tokens, as downloaded ones are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>", model_max_length=512)
    if template:
        fast.chat_template = (
            "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{{ '</s>' }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast) + spare, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, tie_word_embeddings=tied, eos_token_id=fast.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return model, fast


@pytest.mark.parametrize(("spare", "tied"), [(0, False), (0, True), (64, False)])
def test_around_any_language_model(tmp_path, tokenizer, slide, spare, tied):
    source, plain = _language_model(tmp_path / "lm", tokenizer, spare=spare, tied=tied)
    model, processor = from_language_model(tmp_path / "lm", visual_config=HwsiVisualConfig(), kept_patches=2)
    ids = torch.tensor([plain("mitoses in R1?")["input_ids"]])
    with torch.inference_mode():
        torch.testing.assert_close(
            model(input_ids=ids).logits[..., : len(plain)], source(input_ids=ids).logits[..., : len(plain)]
        )
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    loaded, again = load(tmp_path / "ours")
    assert torch.equal(new_ids(loaded, again(QUESTION, slide)), new_ids(model, processor(QUESTION, slide)))
    prefix = again.prefix(slide)
    full = again(QUESTION, slide)["input_ids"][0].tolist()
    assert full == prefix.row["input_ids"].tolist() + again.question(QUESTION)
    cache = prefill(loaded, again, prefix)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    assert torch.equal(
        generate(loaded, cache, [again.question(QUESTION)], **options), new_ids(loaded, again(QUESTION, slide))
    )


def test_language_models_that_do_not_fit_are_refused(tmp_path, tokenizer, capfd):
    for folder, template in (("none", None), ("bare", False), ("torn", True)):
        if template is not None:
            _language_model(tmp_path / folder, tokenizer, template=template)
    _damage(tmp_path / "torn", lambda w: w.pop("model.norm.weight"))
    capfd.readouterr()
    for folder, reason in (
        ("none", Reason.WEIGHTS_MISSING),
        ("bare", Reason.OPTION_INVALID),
        ("torn", Reason.WEIGHTS_MISMATCH),
    ):
        with pytest.raises(HwsiError) as error:
            from_language_model(tmp_path / folder, visual_config=HwsiVisualConfig())
        assert error.value.reason is reason
    assert "model.norm.weight" in error.value.what
    assert capfd.readouterr().err == ""


def test_peft(nano, slide):
    peft = pytest.importorskip("peft", reason="PEFT is not installed")
    model, processor = nano["none"]
    config = peft.LoraConfig(
        target_modules=r".*language_model.*\.(q_proj|v_proj)",
        modules_to_save=["visual"],
        task_type="CAUSAL_LM",
    )
    inputs = processor(QUESTION, slide)
    with torch.inference_mode():
        want = model(**inputs).logits
        adapted = peft.get_peft_model(model, config)
        with adapted.disable_adapter():
            torch.testing.assert_close(adapted(**inputs).logits, want)
