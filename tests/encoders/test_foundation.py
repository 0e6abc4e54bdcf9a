import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from hwsi.encoders import base, foundation, patch_vits
from hwsi.encoders.checkpoints import Naming, load_checkpoint
from hwsi.encoders.conch_text import read_tokenizer
from hwsi.encoders.conch_v15 import AttentionPool, ConchV15
from hwsi.encoders.hipt import Vit4K, Vit256
from hwsi.encoders.patch_vits import Builder, PatchViT
from hwsi.encoders.pixels import IMAGENET, Preparation
from hwsi.encoders.vit_plain import HUGGING_FACE, PlainViT
from hwsi.errors import HwsiError, Reason

CPU = torch.device("cpu")
BUILDERS = {b.spec.id: b for b in vars(patch_vits).values() if isinstance(b, Builder)}

tiny = partial(PlainViT, image=32, patch=16, dim=8, depth=1, heads=2, hidden=16)


def _images(n: int, side: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def _file(folder: Path, state: dict[str, Tensor]) -> Path:
    file = folder / "model.safetensors"
    save_file(state, file)
    return file


def test_every_declared_encoder_has_its_place_and_its_builder() -> None:
    specs = {s.id: s for s in vars(foundation).values() if hasattr(s, "builder")}
    names = [name for spec in specs.values() for name in (spec.id, *spec.aliases)]
    assert len(names) == len(set(names))
    for spec in specs.values():
        assert spec.hub
        assert spec.hub_file
        module, function = spec.builder.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
        assert spec.weights is None
        assert not (spec.commercial and "NC" in spec.licence)


def test_declaring_needs_no_torch() -> None:
    code = "import sys, hwsi.encoders.foundation; assert not {'torch', 'transformers', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "millions"),
    # as the model cards and their papers say
    [("uni_v1", 303.4), ("uni_v2", 681.4), ("virchow", 631.2), ("virchow2", 631.2), ("hoptimus0", 1134.8),
     ("hoptimus1", 1134.8), ("h0-mini", 85.7), ("gigapath", 1134.9), ("midnight12k", 1136.5), ("phikon", 85.8),
     ("phikon_v2", 303.4)],
)  # fmt: skip
def test_sizes_are_the_published_ones(name: str, millions: float) -> None:
    builder = BUILDERS[name]
    with torch.device("meta"):
        vit = builder.vit()
    assert sum(p.numel() for p in vit.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert vit.cls_token.shape[-1] * (1 + builder.with_mean) == builder.spec.dim
    side = builder.preparation.crop or builder.preparation.side
    # Midnight's positions were stored for larger images and are stretched
    assert vit.grid * vit.patch_embed.proj.kernel_size[0] == {"midnight12k": 518}.get(name, side)
    assert builder.preparation.side == builder.spec.input_px


def test_conch_v15_has_its_published_size_and_reads_its_file_by_its_own_names(tmp_path: Path) -> None:
    with torch.device("meta"):
        encoder = ConchV15()
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(306.1, abs=0.1)
    assert isinstance(encoder, base.PatchEncoder)
    assert foundation.CONCH_V15.dim == encoder.ln_contrast.weight.shape[0]
    names = {k for k in encoder.state_dict() if not k.startswith("trunk.blocks.")}
    assert names == {
        "trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.proj.weight", "trunk.patch_embed.proj.bias",
        "trunk.norm.weight", "trunk.norm.bias", "ln_contrast.weight", "ln_contrast.bias",
        *(f"attn_pool_contrast.{k}" for k in ("query", "ln_k.weight", "ln_k.bias", "ln_q.weight", "ln_q.bias",
                                              "to_q.weight", "to_kv.weight", "to_out.weight")),
    }  # fmt: skip
    assert encoder.trunk.pos_embed.shape == (1, 1 + 14 * 14, 1024)
    assert encoder.trunk.blocks[0].ls1.gamma.shape == (1024,)


def test_conch_v15_pools_with_one_query() -> None:
    torch.manual_seed(0)
    pool = AttentionPool()
    tokens = torch.randn(2, 9, 1024)
    with torch.no_grad():
        found = pool(tokens)
        keys = torch.nn.functional.layer_norm(tokens, (1024,))
        query = (torch.nn.functional.layer_norm(pool.query, (768,)) @ pool.to_q.weight.T)[0]
        parts = []
        for head in range(8):
            at = slice(96 * head, 96 * (head + 1))
            k, v = (keys @ pool.to_kv.weight[768 * i : 768 * (i + 1)][at].T for i in (0, 1))
            parts.append(((k @ query[at] / 96**0.5).softmax(1).unsqueeze(-1) * v).sum(1))
        want = torch.cat(parts, -1) @ pool.to_out.weight.T
    assert torch.allclose(found, want, atol=1e-5)


def test_encoders_fit_their_protocols() -> None:
    encoder = PatchViT(
        spec=foundation.UNI_V1, vit=tiny(), preparation=Preparation(side=32, colour=IMAGENET), with_mean=True
    )
    assert isinstance(encoder, base.PatchEncoder)
    assert isinstance(Vit256(), base.PatchEncoder)
    assert isinstance(Vit4K(), base.RegionEncoder)
    vectors = encoder.encode(_images(3, 32))
    assert vectors.shape == (3, 16)
    assert vectors.dtype == torch.float32
    assert not vectors.is_inference()
    assert not vectors.requires_grad
    assert encoder.encode(_images(3, 50)).shape == (3, 16)
    assert torch.allclose(encoder.encode(_images(3, 32)[1:2]), vectors[1:2], atol=1e-6)


def test_class_token_and_mean_leave_registers_out() -> None:
    torch.manual_seed(0)
    vit = tiny(registers=3)
    encoder = PatchViT(
        spec=foundation.VIRCHOW2, vit=vit, preparation=Preparation(side=32, colour=IMAGENET), with_mean=True
    )
    pixels = torch.randn(2, 3, 32, 32)
    tokens = vit(pixels)
    assert tokens.shape == (2, 1 + 3 + 4, 8)
    assert torch.allclose(encoder(pixels), torch.cat([tokens[:, 0], tokens[:, 4:].mean(1)], -1))


def test_pixels_are_resized_as_pillow_does_and_cropped() -> None:
    images = _images(2, 300)
    prepare = BUILDERS["gigapath"].preparation
    resized = np.stack(
        [np.asarray(Image.fromarray(i.numpy()).resize((256, 256), Image.Resampling.BICUBIC)) for i in images]
    )
    want = (torch.from_numpy(resized[:, 16:240, 16:240]).permute(0, 3, 1, 2) / 255).double()
    mean, deviation = (torch.tensor(c).view(3, 1, 1) for c in IMAGENET)
    assert torch.allclose(prepare(images, CPU).double(), (want - mean) / deviation, atol=1e-6)
    same = _images(2, 256)
    assert prepare(same, CPU).shape == (2, 3, 224, 224)
    assert prepare(same[:0], CPU).shape == (0, 3, 224, 224)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 32, 32, 3), torch.zeros(2, 32, 16, 3, dtype=torch.uint8),
                                   torch.zeros(2, 3, 32, 32, dtype=torch.uint8)])  # fmt: skip
def test_other_pixels_are_refused(wrong: Tensor) -> None:
    with pytest.raises(HwsiError, match="uint8") as e:
        Preparation(side=32, colour=IMAGENET)(wrong, CPU)
    assert e.value.reason is Reason.OPTION_INVALID


def test_vectors_of_another_encoder_are_refused() -> None:
    with pytest.raises(HwsiError, match="384") as e:
        Vit4K().encode(
            torch.zeros(1, 4, 512), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, 2, dtype=torch.long)
        )
    assert e.value.reason is Reason.OPTION_INVALID


def test_both_spellings_of_transformers_are_read(tmp_path: Path) -> None:
    vit = tiny(scaled=True)
    state = {}
    for name, value in vit.state_dict().items():
        at = name.replace("blocks.", "encoder.layer.").replace("ls1.gamma", "layer_scale1.lambda1")
        at = at.replace("ls2.gamma", "layer_scale2.lambda1").replace("attn.proj", "attention.output.dense")
        at = at.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        at = at.replace("cls_token", "embeddings.cls_token").replace("pos_embed", "embeddings.position_embeddings")
        at = "layernorm" + at.removeprefix("norm") if at.startswith("norm.") else at
        if ".attn.qkv." in at:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[at.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            state[at] = value.clone()
    plain = {k.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense"): v for k, v in state.items()}
    plain = {k.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after"): v for k, v in plain.items()}
    for held in (state, plain):
        held |= {"embeddings.mask_token": torch.zeros(1, 8), "pooler.dense.weight": torch.zeros(8, 8)}
        again = load_checkpoint(partial(tiny, scaled=True), _file(tmp_path, held), HUGGING_FACE)
        assert all(
            torch.equal(a, b) for a, b in zip(vit.state_dict().values(), again.state_dict().values(), strict=True)
        )
    del plain["encoder.layer.0.attention.attention.key.weight"]
    with pytest.raises(HwsiError, match=r"attention\.attention\.query\.weight .*has shape \(16, 8\), not \(24, 8\)"):
        load_checkpoint(partial(tiny, scaled=True), _file(tmp_path, plain), HUGGING_FACE)


@pytest.mark.parametrize("hub", [True, False])
def test_midnight_is_transformers_model(tmp_path: Path, hub: bool) -> None:
    """Its flags, small: gated feed-forward, positions of 518 px stretched to 224 px; as files and as transformers 5."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, patch_size=14, image_size=518,
        use_swiglu_ffn=True, layerscale_value=0.3)  # fmt: skip
    theirs = Dinov2Model(config).eval()
    with torch.no_grad():
        theirs.embeddings.position_embeddings.normal_()
    state = {k: v for k, v in theirs.state_dict().items() if ".gate_proj." not in k}
    for name, gate in theirs.state_dict().items():
        if hub and ".gate_proj." in name:
            up = state.pop(name.replace("gate_proj", "up_proj"))
            state[name.replace("gate_proj", "weights_in")] = torch.cat([gate, up])
        elif ".gate_proj." in name:
            state[name] = gate
    if hub:
        state = {k.replace("down_proj", "weights_out"): v for k, v in state.items()}
    make = partial(BUILDERS["midnight12k"].vit.func, **(BUILDERS["midnight12k"].vit.keywords | {
        "dim": 48, "depth": 2, "heads": 4, "hidden": 256}))  # fmt: skip
    ours = load_checkpoint(make, _file(tmp_path, state), HUGGING_FACE)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        want = theirs(pixels).last_hidden_state
        found = ours(pixels)
    assert found.shape == want.shape == (2, 257, 48)
    assert (found - want).abs().max() <= 1e-5 * want.abs().max()


def test_every_fault_of_a_file_is_named(tmp_path: Path) -> None:
    state = tiny().state_dict()
    del state["norm.bias"]
    state |= {"head.weight": torch.zeros(2), "cls_token": torch.zeros(1, 1, 9)}
    with pytest.raises(HwsiError) as e:
        load_checkpoint(tiny, _file(tmp_path, state))
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
    for part in (
        "model.safetensors",
        "missing norm.bias",
        "unexpected head.weight",
        "cls_token has shape (1, 1, 9), not (1, 1, 8)",
    ):
        assert part in e.value.what
    with pytest.raises(HwsiError) as e:
        load_checkpoint(tiny, _file(tmp_path, {"a": torch.zeros(1)}))
    assert "more" in e.value.what
    assert len(str(e.value)) < 1000


def test_half_precision_and_old_pickles_are_read(tmp_path: Path) -> None:
    vit = tiny()
    file = _file(tmp_path, {k: v.half() for k, v in vit.state_dict().items()})
    again = load_checkpoint(tiny, file)
    assert all(v.dtype == torch.float32 for v in again.state_dict().values())
    old = tmp_path / "old.bin"
    torch.save({"teacher": vit.state_dict()}, old, _use_new_zipfile_serialization=False)
    again = load_checkpoint(tiny, old, Naming(inside="teacher"))
    assert torch.equal(again.cls_token, vit.cls_token)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: bool) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pth"
    if bare:
        file.write_bytes(pickle.dumps({"a": _Code()}, protocol=2))
    else:
        torch.save({"a": _Code()}, file)
    with pytest.raises(HwsiError) as e:
        load_checkpoint(tiny, file)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
    assert "w.pth" in e.value.what
    assert "\n" not in str(e.value)
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(HwsiError) as e:
        load_checkpoint(tiny, tmp_path / "none.bin")
    assert e.value.reason is Reason.WEIGHTS_MISSING
    whole = tmp_path / "w.pth"
    torch.save(tiny().state_dict(), whole)
    st = _file(tmp_path, tiny().state_dict())
    for file in (whole, st):
        file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(HwsiError) as e:
            load_checkpoint(tiny, file)
        assert e.value.reason is Reason.WEIGHTS_MISMATCH
    torch.save([1, 2], whole)
    with pytest.raises(HwsiError, match="no tensors by name"):
        load_checkpoint(tiny, whole)
    torch.save({"cls_token": 3}, whole)
    with pytest.raises(HwsiError, match="cls_token is no tensor"):
        load_checkpoint(tiny, whole)


def test_the_tokenizer_cuts_and_pads_as_transformers_does(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<start_of_text>": 1, "<end_of_text>": 2, "<unk>": 3, "gland": 4, "tumour": 5}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>", special_tokens=[("<start_of_text>", 1), ("<end_of_text>", 2)]
    )
    file = tmp_path / "tokenizer.json"
    made.save(str(file))
    texts = ["tumour in a gland", "", "gland " * 300]
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="<end_of_text>")
    want = theirs(texts, max_length=127, truncation=True, padding="max_length")["input_ids"]
    ours = [coded.ids for coded in read_tokenizer(file).encode_batch(texts)]
    assert ours == want
    assert ours[0][:7] == [1, 5, 3, 3, 4, 2, 0]
    file.write_text("no json")
    with pytest.raises(HwsiError, match="no tokenizer") as e:
        read_tokenizer(file)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
