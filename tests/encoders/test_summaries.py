"""What is handed up beside vectors: one row for the cells of a patch, two columns for the tissue of a region."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.encoders.summaries import TISSUE_DIM, cells_dim, summarise_cells, summarise_tissue
from hwsi.hierarchy.tree import CELL_TYPES


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 5), st.integers(0, 1000))
def test_a_row_is_what_its_cells_say(m: int, n: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(m, dim)).astype(np.float16)
    types, patch = rng.integers(0, len(CELL_TYPES), m), rng.integers(0, n, m)
    rows = summarise_cells(vectors, types, patch, n)
    assert rows.shape == (n, cells_dim(dim))
    assert rows.dtype == np.float32
    for p in range(n):
        ours, kinds = vectors[patch == p].astype(np.float64), types[patch == p]
        counts, top, mean, spread, inflammatory = np.split(rows[p], np.cumsum([len(CELL_TYPES), dim, dim, dim]))
        assert np.allclose(np.expm1(counts), np.bincount(kinds, minlength=len(CELL_TYPES)), atol=1e-4)
        epithelial = ours[np.isin(kinds, [CELL_TYPES.index("neoplastic"), CELL_TYPES.index("epithelial")])]
        of = ours[kinds == CELL_TYPES.index("inflammatory")]
        assert np.allclose(top, ours.max(0) if len(ours) else 0, atol=1e-3)
        assert np.allclose(mean, epithelial.mean(0) if len(epithelial) else 0, atol=1e-3)
        assert np.allclose(spread, epithelial.std(0) if len(epithelial) else 0, atol=1e-3)
        assert np.allclose(inflammatory, of.mean(0) if len(of) else 0, atol=1e-3)


def test_the_order_of_cells_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    vectors, types, patch = rng.normal(size=(50, 3)), rng.integers(0, 5, 50), rng.integers(0, 4, 50)
    order = rng.permutation(50)
    a = summarise_cells(vectors, types, patch, 4)
    assert np.allclose(a, summarise_cells(vectors[order], types[order], patch[order], 4), atol=1e-5)


def square(x: float, y: float, side: float) -> np.ndarray:
    return np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])


def test_pieces_are_counted_once_where_they_lie_and_crumbs_are_not() -> None:
    xy = np.array([(0, 0), (100, 0), (0, 100)], np.int64)
    tissue = np.array([0.5, 0.2, 0.1], np.float32)
    outlines = [square(10, 10, 80), square(110, 20, 60), square(40, 160, 5)]
    columns = summarise_tissue(outlines, tissue, xy, 100)
    assert columns.shape == (3, TISSUE_DIM)
    assert np.array_equal(columns[:, 0], tissue)
    assert columns[:, 1].tolist() == [1, 1, 0]
    # one that reaches over a border is still one
    assert summarise_tissue([square(50, 0, 100)], tissue, xy, 100)[:, 1].sum() == 1
    assert summarise_tissue([], tissue, xy, 100)[:, 1].sum() == 0
