"""CONCH's image and text towers against its own code (as the authors' release runs it)."""

from pathlib import Path

import pytest
import torch
from golden import golden, recipe, relative, skip
from safetensors.torch import save_file

from hwsi.encoders import conch, conch_text
from hwsi.encoders.conch import Conch
from hwsi.encoders.conch_text import ConchText
from hwsi.errors import HwsiError, Reason

pytestmark = skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CONCH's file; of what is left out of it there are names only."""
    _, sidecar = golden("06_conch")
    unbuilt = ("text_decoder.", "visual.attn_pool_caption.", "visual.ln_caption.")
    state = recipe(sidecar, keys=[k for k in sidecar["keys"] if not k.startswith(unbuilt)])
    state |= {k: torch.zeros(1) for k in sidecar["keys"] if k.startswith(unbuilt)}
    file = tmp_path_factory.mktemp("conch") / "model.safetensors"
    save_file(state, file)
    return file


@pytest.fixture(scope="module")
def image_tower(weights: Path) -> Conch:
    return conch.build(weights)


@pytest.fixture(scope="module")
def text_tower(weights: Path) -> ConchText:
    return conch_text.build(weights)


def test_pixels_are_the_same_to_the_bit(image_tower: Conch) -> None:
    want, _ = golden("06_conch")
    pixels = image_tower.preparation(want["images_u8"], torch.device("cpu"))
    assert pixels.shape == (2, 3, 448, 448)
    assert relative(pixels[:, :, ::8, ::8], want["preprocessed_stride8"]) < 1e-6


def test_images_are_the_same(image_tower: Conch) -> None:
    want, _ = golden("06_conch")
    pixels = image_tower.preparation(want["images_u8"], torch.device("cpu"))
    with torch.inference_mode():
        tokens = image_tower.trunk(pixels)
        pooled = image_tower.ln_contrast(image_tower.attn_pool_contrast(tokens))
        raw = pooled @ image_tower.proj_contrast
    assert relative(tokens[:, :8], want["trunk.tokens_first8"]) < 1e-5
    assert relative(tokens[:, -1:], want["trunk.tokens_last"]) < 1e-5
    assert relative(pooled, want["image.no_head"]) < 1e-5
    assert relative(raw, want["image.raw"]) < 1e-5
    vectors = image_tower.encode(want["images_u8"])
    assert relative(vectors, want["image.normalized"]) < 1e-5
    assert not vectors.is_inference()


def test_texts_are_the_same(text_tower: ConchText) -> None:
    want, _ = golden("06_conch")
    ids = want["text.ids"][:, :127]
    with torch.inference_mode():
        assert relative(text_tower(ids), want["text.raw"]) < 1e-5
        # short texts are cut to their length; nothing is lost by that
        for i in range(3):
            assert relative(text_tower(ids[i : i + 1]), want["text.raw"][i : i + 1]) < 1e-5


def test_what_stands_behind_the_text_is_not_seen(text_tower: ConchText) -> None:
    want, _ = golden("06_conch")
    ids = want["text.ids"][:2, :127].clone()
    assert ids[1, 10] == 0
    assert ids[1, 9] != 0
    with torch.inference_mode():
        before = text_tower(ids)
        ids[1, 9] = 7
        after = text_tower(ids)
    assert relative(after[:1], before[:1]) < 1e-6
    assert relative(after[1:], before[1:]) > 1e-3


def test_without_its_tokenizer_the_text_tower_says_what_to_fetch(text_tower: ConchText) -> None:
    with pytest.raises(HwsiError, match="conch_byte_level_bpe_uncased") as e:
        text_tower.encode(["tumour"])
    assert e.value.reason is Reason.WEIGHTS_MISSING
