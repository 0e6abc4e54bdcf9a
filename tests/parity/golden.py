"""Golden vectors of the authors' release, and the weights that they were made with.

Weights are not stored: a sidecar's recipe rebuilds each tensor from its name and a seed.
"""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"

skip = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors at {GOLDEN}")


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and sidecar of ``name``, such as ``08_ccaf_vits``."""
    return load_file(GOLDEN / f"{name}.safetensors"), json.loads((GOLDEN / f"{name}.json").read_text())


def recipe(sidecar: dict[str, Any], seed: int | None = None, *, keys: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The weights of a sidecar with ``keys`` (all, or some of them); ``seed`` where the sidecar names none."""
    seed = sidecar["seed"] if seed is None else seed
    weights = {}
    for key in sidecar["keys"] if keys is None else keys:
        how = sidecar["keys"][key]
        if how["kind"] == "unused":
            continue
        if how["kind"] == "int0":
            weights[key] = torch.zeros((), dtype=torch.int64)
            continue
        state = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()) & 0xFFFFFFFF)
        normal = state.standard_normal(int(np.prod(how["shape"]))).reshape(how["shape"])
        value = how["offset"] + how["std"] * (np.abs(normal) if how["kind"] == "abs" else normal)
        weights[key] = torch.from_numpy(np.asarray(value, np.float32))
        assert np.allclose(weights[key].flatten()[:3], how["first3"], rtol=1e-6), f"the recipe gives another {key}"
    return weights


def relative(found: Any, expected: Any) -> float:
    """max |found - expected| / max |expected|."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())
