"""An index of slides: the vectors by which a slide is found, in one file beside the feature files.

- Of each slide: the slide encoder's vector and the mean of its patches (slide to slide), and, with a text tower, slide
  and regions in the space of words (text to slide, report to slide). Patches themselves stay in the feature files;
  inside a slide they are read there.
- Slides that are added later give the same bytes as all at once: rows are in order of name and fingerprint.
- Search is exact, a product of matrices: a query over a million rows of 192 numbers reads 0.8 GB, a fraction of a
  second on one core. An approximate index (FAISS) would begin to pay where the rows no longer fit into memory; an index
  has some hundred rows a slide.
- The file names the encoders and weights that made it; slides of others are refused, since their vectors would be
  comparable in form only. It is whole or not there.

Notation: S slides, R regions of all slides; widths D of the slide encoder, P of the patch encoder, E of the words.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures, read_features
from hwsi.features.atomic import write_atomic
from hwsi.hierarchy.labels import region_label
from hwsi.hierarchy.selection import described
from hwsi.inference.cases import unit
from hwsi.inference.space import Space, check_weights, weights_of
from hwsi.presets import EncoderIds

Float32 = NDArray[np.float32]
Int = NDArray[np.int64]

_SCHEMA = "hwsi.index/1"
_TABLES = ("slide", "patches", "words_slide", "words_region", "region_of", "region_box")


@dataclass(frozen=True, order=True)
class Indexed:
    """A slide of an index: its name, its fingerprint, and the digest of its feature file (empty if it had none)."""

    slide: str
    slide_id: str
    features_sha256: str = ""

    @property
    def key(self) -> str:
        """What stands for the slide: its fingerprint, or its name if that is not known."""
        return self.slide_id or self.slide


@dataclass(frozen=True)
class SlideIndex:
    """Vectors of slides, rows in order of ``entries``.

    Attributes:
        preset: that encoded them.
        slide_encoder, patch_encoder: ids of the encoders of ``slide`` and ``patches``.
        weights: encoder id -> digest of its weights: of these two, and of all that the space of words rests on.
        entries: the S slides.
        slide: (S, D) float32, rows of length one.
        patches: (S, P) float32, likewise: the mean of the unit vectors of the patches that are no background.
        words_slide: (S, E) float32, likewise; E is 0 without a text tower.
        words_region: (R, E) float32; ``region_of`` (R,) int64 is the slide's row, ``region_box`` (R, 4) int64 x0, y0,
            x1, y1 in level-0 pixels, regions of a slide in order of their labels.
    """

    preset: str
    slide_encoder: str
    patch_encoder: str
    weights: dict[str, str]
    entries: tuple[Indexed, ...]
    slide: Float32
    patches: Float32
    words_slide: Float32
    words_region: Float32
    region_of: Int
    region_box: Int

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the slides."""
        return tuple(e.slide for e in self.entries)

    def region_name(self, row: int) -> str:
        """Label of a row of ``words_region`` within its slide."""
        return region_label(row - int(np.searchsorted(self.region_of, self.region_of[row])))

    def find(self, features: SlideFeatures) -> int | None:
        """Row of a slide; None if it is not here."""
        key = features.slide_id or features.slide_name
        return next((i for i, e in enumerate(self.entries) if e.key == key), None)

    def need_words(self) -> None:
        """Refuse what needs words, of an index without (HwsiError OPTION_INVALID)."""
        if not self.words_slide.shape[1]:
            what = f"the index was made with preset {self.preset}, which has no text tower"
            raise HwsiError(Reason.OPTION_INVALID, what, "index with a preset that has one (nano, paper)")

    def check(self, space: Space) -> None:
        """Refuse a space of other weights than those of the index (HwsiError FEATURES_MISMATCH)."""
        self.need_words()
        _same(self, {self.slide_encoder: "", self.patch_encoder: "", **space.weights})


def index_slide(
    features: SlideFeatures, sha256: str = "", *, preset: str, encoders: EncoderIds, space: Space | None
) -> SlideIndex:
    """An index of one slide; :func:`join` makes one of many.

    Args:
        features: of the slide. sha256: digest of the content of their file, empty for none.
        preset: that encoded it, as :func:`hwsi.presets.load_preset` finds it. encoders: that it names.
        space: of its words; None for none.

    Raises:
        HwsiError: FEATURES_MISMATCH (no vectors of these encoders; other weights than those of the space).
    """
    weights = dict(space.weights) if space is not None else {}
    for scale, name in (("slide", encoders.slide), ("patch", encoders.patch)):
        check_weights(features, scale, name, weights.get(name, ""))
        weights[name] = weights.get(name) or weights_of(features, name)
    places = space.tissue(features) if space is not None else None
    boxes = _boxes(features)
    return SlideIndex(
        preset=preset,
        slide_encoder=encoders.slide,
        patch_encoder=encoders.patch,
        weights=weights,
        entries=(Indexed(features.slide_name, features.slide_id, sha256),),
        slide=slide_vector(features, encoders.slide)[None],
        patches=patch_mean(features, encoders.patch)[None],
        words_slide=places.slide[None] if places else np.zeros((1, 0), np.float32),
        words_region=places.region if places else np.zeros((len(boxes), 0), np.float32),
        region_of=np.zeros(len(boxes), np.int64),
        region_box=boxes,
    )


def slide_vector(features: SlideFeatures, encoder: str) -> Float32:
    """A slide's vector of a slide encoder (D,), of length one."""
    return unit(features.slide[encoder])


def patch_mean(features: SlideFeatures, encoder: str) -> Float32:
    """The mean of the unit vectors of a slide's patches (P,), of length one."""
    rows = features.patch[encoder]
    return unit(unit(rows[described(features.hierarchy.patches.background, rows)]).mean(0))


def join(indexes: Sequence[SlideIndex]) -> SlideIndex:
    """Indexes as one; a slide that stands in several is taken from the last.

    Raises:
        HwsiError: FEATURES_MISMATCH (they were made by other encoders or weights).
    """
    first = indexes[0]
    for other in indexes[1:]:
        _same(first, other.weights)
    rows = {e.key: (n, i) for n, one in enumerate(indexes) for i, e in enumerate(one.entries)}
    parts = sorted(rows.values(), key=lambda at: indexes[at[0]].entries[at[1]])
    # regions of a slide stand together: where they begin and end
    ends = [np.searchsorted(one.region_of, np.arange(len(one) + 1)) for one in indexes]

    def regions(table: str) -> list[NDArray[Any]]:
        return [getattr(indexes[n], table)[ends[n][i] : ends[n][i + 1]] for n, i in parts]

    boxes = regions("region_box")
    known = [{k: v for k, v in one.weights.items() if v} for one in reversed(indexes)]
    return replace(
        first,
        weights={name: next((k[name] for k in known if name in k), "") for name in sorted(first.weights)},
        entries=tuple(indexes[n].entries[i] for n, i in parts),
        slide=np.stack([indexes[n].slide[i] for n, i in parts]),
        patches=np.stack([indexes[n].patches[i] for n, i in parts]),
        words_slide=np.stack([indexes[n].words_slide[i] for n, i in parts]),
        words_region=np.concatenate(regions("words_region")),
        region_of=np.repeat(np.arange(len(parts), dtype=np.int64), [len(rows) for rows in boxes]),
        region_box=np.concatenate(boxes),
    )


def write_index(path: str | Path, index: SlideIndex) -> None:
    """Write an index, wholly or not at all; equal indexes give equal bytes.

    Raises:
        HwsiError: DISK_FULL, OUTPUT_UNWRITABLE.
    """
    from safetensors.numpy import save

    told = {
        "schema": _SCHEMA,
        "preset": index.preset,
        "slide_encoder": index.slide_encoder,
        "patch_encoder": index.patch_encoder,
        "weights": index.weights,
        "entries": [asdict(entry) for entry in index.entries],
    }
    tables = {name: np.ascontiguousarray(getattr(index, name)) for name in _TABLES}
    # one entry: the library writes several in any order
    write_atomic(Path(path), save(tables, {"hwsi": json.dumps(told, sort_keys=True)}))


def read_index(path: str | Path) -> SlideIndex:
    """An index from its file.

    Raises:
        HwsiError: FEATURES_MISSING; FEATURES_CORRUPT (cut short, or no index).
    """
    path = Path(path)
    if not path.is_file():
        raise HwsiError(Reason.FEATURES_MISSING, f"there is no index {path}", "make it: hwsi index JOB --to FILE")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            told = json.loads((file.metadata() or {})["hwsi"])
            tables = {name: file.get_tensor(name) for name in _TABLES}
        if told.pop("schema") != _SCHEMA:
            raise ValueError("another version")
        entries = tuple(Indexed(**entry) for entry in told.pop("entries"))
        if any(len(tables[name]) != len(entries) for name in ("slide", "patches", "words_slide")):
            raise ValueError("rows and slides differ in number")
        return SlideIndex(entries=entries, **told, **tables)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        what = f"{path} is no whole index: {error}"
        raise HwsiError(
            Reason.FEATURES_CORRUPT, what, "remove it and make it again: hwsi index JOB --to FILE"
        ) from error


@dataclass(frozen=True)
class Update:
    """What became of the feature files: added or replaced, kept as they were, left out (path -> reason)."""

    index: SlideIndex
    added: int
    kept: int
    left_out: dict[str, str]


def update_index(
    path: str | Path, files: Sequence[Path], *, preset: str, encoders: EncoderIds, space: Space | None
) -> Update:
    """Bring an index up to date with feature files, and write it.

    Args:
        path: of the index; made if it is not there.
        files: feature files. One that is in the index with the same content is not read again; one that is damaged
            or of other encoders is left out, with the reason.
        preset, encoders, space: as of :func:`index_slide`.

    Raises:
        HwsiError: FEATURES_MISMATCH (the index was made by others), FEATURES_MISSING (nothing to index); as
            :func:`read_index` and :func:`write_index`.
    """
    old = read_index(path) if Path(path).exists() else None
    if old is not None:
        _same(old, {encoders.slide: "", encoders.patch: "", **(space.weights if space is not None else {})})
    left_out: dict[str, str] = {}
    shas: dict[Path, str] = {}
    for file in files:
        try:
            shas[file] = content_sha256(file)
        except HwsiError as error:
            left_out[str(file)] = str(error)
    known = {e.features_sha256: e.key for e in old.entries if e.features_sha256} if old is not None else {}
    # a slide has one file: the one that is in the index, else the first
    here = {known[sha] for sha in shas.values() if sha in known}
    fresh: list[SlideIndex] = []
    for file, sha in shas.items():
        if sha in known:
            continue
        try:
            one = index_slide(read_features(file), sha, preset=preset, encoders=encoders, space=space)
        except HwsiError as error:
            left_out[str(file)] = str(error)
            continue
        entry = one.entries[0]
        if entry.key in here:
            left_out[str(file)] = f"another file holds the same slide, {entry.slide}"
        else:
            here.add(entry.key)
            fresh.append(one)
    parts = [*([old] if old is not None else []), *fresh]
    if not parts:
        why = next(iter(left_out.values()), "no feature files")
        raise HwsiError(Reason.FEATURES_MISSING, f"no slide could be indexed: {why}", "encode slides first")
    index = join(parts)
    if fresh:
        write_index(path, index)
    return Update(index, len(fresh), sum(sha in known for sha in shas.values()), left_out)


def _boxes(features: SlideFeatures) -> Int:
    """(R, 4) int64, inside the slide."""
    tree = features.hierarchy
    corner = tree.regions.xy + tree.regions.size0
    far = np.minimum(corner, (tree.width0, tree.height0))
    return np.concatenate([tree.regions.xy, far], 1).astype(np.int64)


def content_sha256(path: Path) -> str:
    """What a feature file says its content is; its tables are not read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs.get("content_sha256", ""))
    except OSError as error:
        what = f"{path} is no feature file: {error}"
        raise HwsiError(Reason.FEATURES_CORRUPT, what, "remove it and encode the slide again") from error


def _same(index: SlideIndex, weights: Mapping[str, str]) -> None:
    """Refuse other encoders than those of an index, and other weights where both sides know them."""
    if index.weights.keys() != weights.keys():
        mine, theirs = (", ".join(sorted(names)) for names in (index.weights, weights))
        what = f"the index was made with {mine} (preset {index.preset}), not with {theirs}"
        raise HwsiError(Reason.FEATURES_MISMATCH, what, "make another index for other encoders")
    for name, a in index.weights.items():
        b = weights[name]
        if a and b and a != b:
            what = f"the index was made by other weights of {name} ({a[:8]}, not {b[:8]}; preset {index.preset})"
            raise HwsiError(Reason.FEATURES_MISMATCH, what, "make the index again")
