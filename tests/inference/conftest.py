"""A small slide in memory and an untrained nano: all that inference needs, in a second."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hwsi.features import SlideFeatures
from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions

SIDE0, PATCH0, COLS = 512, 128, 4
WIDTH0, HEIGHT0 = 1400, 900  # regions of the last row and column reach over the border


def make_features(seed: int = 0, *, preset: str = "nano", cells_per_patch: int = 20) -> SlideFeatures:
    """Features of a slide of 3 x 2 regions whose last column is half outside."""
    rng = np.random.default_rng(seed)
    grid = np.array([(r, c) for r in range(2) for c in range(3)], np.int64)
    r = len(grid)
    xy = grid[:, ::-1] * SIDE0
    ones, zeros = np.ones(r, np.float32), np.zeros(r, np.float32)
    outside = (xy + SIDE0 > (WIDTH0, HEIGHT0)).any(1)
    regions = Regions(xy=xy, size0=SIDE0, grid=grid, tissue=ones, focus=ones, pen=zeros, padded=outside)
    parent = np.repeat(np.arange(r), COLS * COLS)
    row_col = np.tile(np.array([(a, b) for a in range(COLS) for b in range(COLS)]), (r, 1))
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    n = len(parent)
    background = (patch_xy + PATCH0 / 2 >= (WIDTH0, HEIGHT0)).any(1)
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col,
        tissue=np.where(background, 0, 1).astype(np.float32), background=background,
    )  # fmt: skip
    owner = np.repeat(np.flatnonzero(~background), cells_per_patch)
    m = len(owner)
    centre = (patch_xy[owner] + rng.uniform(5, PATCH0 - 5, (m, 2))).astype(np.float32)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) * 6
    cells = Cells(
        xy=centre, patch=owner, contour_ptr=np.arange(m + 1) * 12,
        contour_xy=(centre[:, None] + ring).reshape(-1, 2).astype(np.float32),
        type=rng.integers(0, 5, m), type_prob=rng.uniform(0.2, 1, m).astype(np.float32),
    )  # fmt: skip
    tree = Hierarchy(WIDTH0, HEIGHT0, 0.5, SIDE0, PATCH0, 0.5, regions, patches, cells)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    patch = draw(n, 192)
    patch[background] = 0
    outline = np.array([(10, 10), (WIDTH0 - 10, 10), (WIDTH0 - 10, HEIGHT0 - 10), (10, HEIGHT0 - 10)], float)
    return SlideFeatures(
        slide_id=f"{seed:032x}", slide_name=f"made-{seed}", hierarchy=tree, mpp_source="user", preset=preset,
        patch={"patch-nano": patch}, cell={"cell-nano": draw(m, 64)}, region={"region-nano": draw(r, 192)},
        slide={"slide-nano": draw(192)}, tissue=((outline,),), warnings=("a warning of the slide",),
    )  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _short_reports():
    """An untrained model never ends a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwsi.inference.studied.REPORT_TOKENS", 32)
        yield


@pytest.fixture(scope="session")
def nano():
    """(model, processor) of nano's shape with random weights."""
    from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
    from hwsi.model.nano import build_nano
    from hwsi.model.tokenizer import train_nano_tokenizer

    texts = ["What is the histologic grade?\nOptions: grade 1; grade 2; grade 3", "Is necrosis present? yes no"]
    texts += [REPORT_PROMPT, CAPTION_PROMPT, "R1 shows tumour. R2 shows stroma with lymphocytes."]
    model, processor = build_nano(train_nano_tokenizer(texts, vocab_size=400))
    # an untrained model may say nothing but special tokens, which are no words: make words likelier
    special = [i for i, t in processor.tokenizer.added_tokens_decoder.items() if t.special]
    with torch.no_grad():
        model.get_input_embeddings().weight[special] *= 0.1
    return model, processor


@pytest.fixture(scope="session")
def features() -> SlideFeatures:
    return make_features()


@pytest.fixture(scope="session")
def features_of() -> Callable[..., SlideFeatures]:
    return make_features


@pytest.fixture(scope="session")
def session(nano, features):
    from hwsi.inference import Session

    return Session(*nano, features, weights_sha256="0" * 64)
