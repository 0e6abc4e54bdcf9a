"""What training never sees, one axis at a time: looks, artefacts together, findings in a diagnosis.

- Stain and scanner lie outside the range of ``Look.from_seed``: other vectors than any mixture gives, a softer lens,
  more noise, stronger compression.
- Artefacts that the first edition never puts on one slide together.
- Pairs of diagnosis and finding that the second edition's training never draws, while it draws either with others. (A
  diagnosis in an organ where it never was would have no words to be answered with.)
"""

from dataclasses import replace

import numpy as np

from hwsi.phantom.develop import Look
from hwsi.phantom.spec import Spec

AXES = ("wording", "stain", "scanner", "artefact", "pair")
"""Axes of shift; ``wording`` is asked on the slides without a shift."""

_STAINS = (
    ((0.468, 0.824, 0.319), (0.142, 0.912, 0.385)),  # violet
    ((0.857, 0.446, 0.258), (0.431, 0.701, 0.568)),  # blue, and an orange counterstain
)
ARTEFACTS: tuple[tuple[str, ...], ...] = (("pen", "fold"), ("blur", "bubble"), ("pen", "fold", "blur", "bubble"))
PAIRS: dict[str, tuple[str, object]] = {
    "invasive ductal carcinoma": ("til", 2),
    "colonic adenocarcinoma": ("tubules", 3),
    "lung adenocarcinoma": ("necrosis", True),
    "lymph node metastasis": ("pleomorphism", 1),
    "prostatic adenocarcinoma": ("pleomorphism", 3),
}
"""Diagnosis -> (attribute of its request, value) that training never draws together."""


def unseen(spec: Spec) -> bool:
    """Whether a request holds a pair of :data:`PAIRS`."""
    name, value = PAIRS.get(spec.diagnosis, ("", None))
    return bool(name) and getattr(spec, name) == value


def look_of(seed: int, axis: str = "") -> Look:
    """Stain and scanner of a slide; those of the first edition unless the axis shifts them."""
    look = Look.from_seed(seed)
    rng = np.random.default_rng([seed, 63])
    if axis == "stain":
        haematoxylin, eosin = _STAINS[int(rng.integers(len(_STAINS)))]
        return replace(look, haematoxylin=haematoxylin, eosin=eosin)
    if axis == "scanner":
        return replace(
            look,
            blur_px=float(rng.uniform(1.1, 1.5)),
            sharpen=0.0,
            noise=float(rng.uniform(2.8, 3.6)),
            jpeg_quality=int(rng.integers(15, 25)),
        )
    return look
