"""The space in which tissue and words meet: vectors of a slide, its regions and patches, and of texts, to compare.

- Which scales lie in it is what the text tower was trained with: the embedded tower meets patches, regions and slides;
  CONCH's meets patches. After ``hwsi train align`` all three do, each through its head.
- A scale that does not lie in it has the mean of the unit vectors of the patches below it, so that every preset with a
  text tower can be searched at every scale.
- Features made by other weights than those that the tower was trained with lie elsewhere: they are refused.

Notation: N patches, R regions, E width of the space; every vector has length one, background patches are zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.encoders import registry
from hwsi.encoders.base import TextEncoder
from hwsi.encoders.weights import sha256
from hwsi.encoding.device import choose_device
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.hierarchy.selection import described
from hwsi.inference.cases import unit
from hwsi.presets import load_preset

Float32 = NDArray[np.float32]

# text tower -> encoders whose vectors it was trained with, by scale
_MEETS: dict[str, dict[str, str]] = {
    "text-nano": {"patch": "patch-nano", "region": "region-nano", "slide": "slide-nano"},
    "conch_v1_text": {"patch": "conch_v1"},
}
_BATCH = 64
SCALES = ("slide", "region", "patch")


@dataclass(frozen=True)
class Places:
    """A slide in the space: ``slide`` (E,), ``region`` (R, E), ``patch`` (N, E), float32."""

    slide: Float32
    region: Float32
    patch: Float32


@dataclass(frozen=True)
class Space:
    """A text tower, and what leads into its space.

    Attributes:
        tower: the text encoder.
        meets: scale -> id of the encoder whose vectors lie in the space, or lead there through a head.
        weights: encoder id -> digest of the weights that belong to it, of the tower's, too; empty for what has none.
        heads: name of a scale, or ``text``, -> weight (E, D) and bias (E,); empty without heads.
    """

    tower: TextEncoder
    meets: Mapping[str, str]
    weights: Mapping[str, str]
    heads: Mapping[str, tuple[Float32, Float32]] = field(default_factory=dict)

    def texts(self, texts: Sequence[str]) -> Float32:
        """Texts (n of them) -> (n, E)."""
        parts = [self._read(list(texts[i : i + _BATCH])) for i in range(0, len(texts), _BATCH)]
        return np.concatenate(parts) if parts else self._read([])

    def tissue(self, features: SlideFeatures) -> Places:
        """A slide and its parts. Raises HwsiError(FEATURES_MISMATCH) if its features are not those of the space."""
        self.check(features)
        tree = features.hierarchy
        rows = features.patch[self.meets["patch"]]
        patch = self._lead("patch", rows)
        patch[~described(tree.patches.background, rows)] = 0
        below = np.zeros((len(tree.regions), patch.shape[1]))
        np.add.at(below, tree.patches.region, patch)
        region = self._lead("region", features.region[self.meets["region"]]) if "region" in self.meets else unit(below)
        if "slide" in self.meets:
            slide = self._lead("slide", features.slide[self.meets["slide"]][None])[0]
        else:
            slide = unit(below.sum(0))
        return Places(slide, region, patch)

    def check(self, features: SlideFeatures) -> None:
        """Refuse features of other encoders, or of other weights (HwsiError FEATURES_MISMATCH)."""
        for scale, name in self.meets.items():
            check_weights(features, scale, name, self.weights.get(name, ""))

    def _read(self, texts: list[str]) -> Float32:
        return self._lead("text", self.tower.encode(texts).cpu().numpy())

    def _lead(self, name: str, vectors: NDArray[Any]) -> Float32:
        if name in self.heads:
            weight, bias = self.heads[name]
            vectors = vectors @ weight.T + bias
        return unit(vectors)


def check_weights(features: SlideFeatures, scale: str, encoder: str, weights_sha256: str) -> None:
    """See that a slide has the vectors of an encoder, made by these weights.

    Raises:
        HwsiError: FEATURES_MISMATCH. Where either side does not know its weights, the id decides.
    """
    if encoder not in getattr(features, scale):
        here = ", ".join(getattr(features, scale)) or "none"
        raise HwsiError(
            Reason.FEATURES_MISMATCH,
            f"{features.slide_name} has no {scale} vectors of {encoder} (it has {here})",
            "encode it with the preset that you search with",
        )
    made = weights_of(features, encoder)
    if made and weights_sha256 and made != weights_sha256:
        raise HwsiError(
            Reason.FEATURES_MISMATCH,
            f"{features.slide_name} was encoded by other weights of {encoder} ({made[:8]}, not {weights_sha256[:8]})",
            "encode the slide again",
        )


def weights_of(features: SlideFeatures, encoder: str) -> str:
    """Digest of the weights by which an encoder made a slide's features; empty if they do not say."""
    return str(features.provenance.get("encoders", {}).get(encoder, {}).get("weights_sha256", ""))


def load_space(preset: str = "nano", *, aligned: str | Path | None = None, device: str = "auto") -> Space:
    """The space of a preset's text tower.

    Args:
        preset: its name or file.
        aligned: folder that ``hwsi train align`` wrote, for its tower and heads.
        device: where the tower computes.

    Raises:
        HwsiError: PRESET_UNKNOWN, WEIGHTS_MISSING, WEIGHTS_MISMATCH; OPTION_INVALID for a preset without words.
    """
    chosen = load_preset(preset)
    ids = chosen.encoders
    if not ids.text or (aligned is None and ids.text not in _MEETS):
        raise HwsiError(
            Reason.OPTION_INVALID,
            f"preset {chosen.name} has no text tower that meets its tissue",
            "take one that has (nano, paper), or name with --aligned a folder of hwsi train align",
        )
    spec = registry.get(ids.text)
    at = choose_device(device, small=bool(spec.weights))
    if aligned is not None:
        return _aligned(Path(aligned) / "encoders", spec, {s: getattr(ids, s) for s in SCALES}, at)
    meets = {scale: name for scale, name in _MEETS[spec.id].items() if name == getattr(ids, scale)}
    if "patch" not in meets:
        raise HwsiError(
            Reason.OPTION_INVALID,
            f"preset {chosen.name} encodes patches by {ids.patch}, which {spec.id} was not trained with",
            f"take the patch encoder {_MEETS[spec.id]['patch']}",
        )
    cards = [registry.get(name) for name in meets.values()]
    digests = {card.id: card.weights_sha256() for card in (*cards, spec)}
    return Space(spec.build(at), meets, digests)


def _aligned(folder: Path, spec: registry.EncoderSpec, ids: dict[str, str], device: str) -> Space:
    file = folder / "heads.safetensors"
    if not file.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"there is no {file}", "name the output folder of hwsi train align")
    from safetensors.numpy import load_file

    stored = load_file(file)
    try:
        heads = {
            name: (stored[f"of.{name}.weight"].astype(np.float32), stored[f"of.{name}.bias"].astype(np.float32))
            for name in (*SCALES, "text")
        }
    except KeyError as error:
        what = f"{file} has no head for {error}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "take heads.safetensors of hwsi train align") from error
    text = folder / "text.safetensors"
    # patches were read as they stood in feature files; regions and slides are made by what was trained
    digests = {ids[s]: sha256(folder / f"{s}.safetensors") for s in ("region", "slide")}
    return Space(
        spec.build(device, weights=text), ids, {**digests, spec.id: sha256(text), "heads": sha256(file)}, heads
    )
