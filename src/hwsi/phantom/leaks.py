"""The leak gate: what must not tell the answer, and whether it does.

- Trivial features of a slide (mean colour, tissue fraction, file size, number of nuclei, nearest thumbnail) must not
  tell the diagnosis, its malignancy or the grade, within an organ; the words of a question must not tell its answer.
- The bar is chance plus three standard errors of balanced accuracy under chance, by cross-validation that keeps twins
  (one patient) together. What passes is not proven silent; what fails is proven to talk.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.cohort import read_manifest
from hwsi.phantom.measure import STEP_UM
from hwsi.phantom.questions import Question, balance, slide_of
from hwsi.phantom.spec import MALIGNANT
from hwsi.phantom.truth import load_truth

Array = NDArray[np.float64]
FEATURES = ("mean colour", "tissue fraction", "file size", "nuclei", "thumbnail")
_THUMBNAIL_PX = 24
_FOLDS = 5
LEAST = 5  # slides of a class, or it is not tested


@dataclass(frozen=True)
class Result:
    """One cell of the gate: balanced accuracy of a feature on a target, chance, and its standard error."""

    target: str
    group: str
    feature: str
    n: int
    score: float
    chance: float
    error: float

    @property
    def leaks(self) -> bool:
        """Above chance plus three standard errors."""
        return self.score > self.chance + 3 * self.error


def slide_features(folder: Path) -> tuple[dict[str, Array], list[dict[str, Any]], list[str]]:
    """Trivial features of every slide of a cohort.

    Returns:
        name -> (n, d) features of :data:`FEATURES`; truths (n); patients (n).
    """
    rows, truths = _whole(folder)
    columns: dict[str, list[Array]] = defaultdict(list)
    for row, truth in zip(rows, truths, strict=True):
        path = folder / row["slide"]
        small = thumbnail(path)
        area_um2 = truth["width0"] * truth["height0"] * truth["mpp"] ** 2
        grey = small.mean(2)
        inside = grey < 0.93 * np.quantile(grey, 0.98)
        colour = small[inside].mean(0) if inside.any() else small.mean((0, 1))
        columns["mean colour"].append(np.concatenate([small.mean((0, 1)), colour]))
        columns["tissue fraction"].append(np.array([truth["slide"]["tissue_um2"] / area_um2, inside.mean()]))
        size = path.stat().st_size
        columns["file size"].append(np.array([size, size / area_um2, float(path.suffix == ".svs")]))
        cells = truth["slide"]["cells"]
        columns["nuclei"].append(np.array([cells, cells / max(truth["slide"]["tissue_um2"], STEP_UM**2) * 1e6]))
        columns["thumbnail"].append(_resized(small, _THUMBNAIL_PX).ravel())
    return {k: np.stack(v) for k, v in columns.items()}, truths, [row["patient"] for row in rows]


def _whole(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Manifest rows and truths of the slides that are there: a cohort may be still drawn."""
    rows = [r for r in read_manifest(folder) if (folder / r["slide"]).with_suffix(".truth.json").is_file()]
    return rows, [load_truth(folder / row["slide"]) for row in rows]


def thumbnail(path: Path) -> Array:
    """The whole slide at about 16 um/px, as float RGB (h, w, 3)."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        pages = list(tiff.series[0].levels) if len(tiff.series[0].levels) > 1 else list(tiff.pages)
        ratio = pages[0].shape[1] / pages[0].shape[0]
        same = [p for p in pages if len(p.shape) == 3 and abs(p.shape[1] / p.shape[0] - ratio) < 0.05 * ratio]
        image = same[-1].asarray()
    rows, columns = max(1, image.shape[0] // 64), max(1, image.shape[1] // 64)
    step = max(1, min(rows, columns) // 2)
    return np.asarray(image[::step, ::step, :3], np.float64)


def _resized(image: Array, side: int) -> Array:
    rows = np.linspace(0, image.shape[0] - 1, side).astype(np.int64)
    columns = np.linspace(0, image.shape[1] - 1, side).astype(np.int64)
    return image[rows][:, columns]


def _sklearn() -> Any:
    try:
        from sklearn import ensemble, model_selection, neighbors
    except ImportError:
        raise HwsiError(Reason.EXTRA_MISSING, "the leak gate needs scikit-learn", "pip install 'hwsi[bench]'") from None
    return ensemble, model_selection, neighbors


def predict_across(x: Array, y: NDArray[np.int64], groups: Sequence[str], *, nearest: bool) -> NDArray[np.int64]:
    """Predictions (n,) for ``y`` by models that never saw the slide or its patient; -1 where a fold had one class."""
    ensemble, selection, neighbors = _sklearn()
    predicted = np.full(len(y), -1, np.int64)
    folds = selection.StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(x, y, groups):
        if len(np.unique(y[train])) < 2:
            continue
        if nearest:
            model = neighbors.KNeighborsClassifier(1)
        else:
            model = ensemble.ExtraTreesClassifier(
                150, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=1
            )
        predicted[test] = model.fit(x[train], y[train]).predict(x[test])
    return predicted


def balanced(y: NDArray[np.int64], predicted: NDArray[np.int64]) -> tuple[float, float, float]:
    """(balanced accuracy, chance, standard error under chance): means over classes."""
    classes, counts = np.unique(y, return_counts=True)
    k = len(classes)
    score = float(np.mean([(predicted[y == c] == c).mean() for c in classes]))
    chance = 1 / k
    return score, chance, float(np.sqrt(chance * (1 - chance) * (1 / counts).mean() / k))


def gate_slides(folder: Path) -> list[Result]:
    """Trivial features against diagnosis, malignancy and grade, within each organ."""
    features, truths, patients = slide_features(folder)
    targets = {
        "diagnosis": [t["diagnosis"] for t in truths],
        "malignancy": [str(t["diagnosis"] in MALIGNANT) for t in truths],
        "grade": [str(t["slide"]["grade"] or "") for t in truths],
    }
    results = []
    for organ in sorted({t["organ"] for t in truths}):
        for target, labels in targets.items():
            if target == "malignancy" and len({t["diagnosis"] for t in truths if t["organ"] == organ}) == 2:
                continue  # the same as the diagnosis
            ours = [i for i, t in enumerate(truths) if t["organ"] == organ and labels[i]]
            kept = {c for c in set(labels) if sum(labels[i] == c for i in ours) >= LEAST}
            ours = [i for i in ours if labels[i] in kept]
            if len(kept) < 2:
                continue
            y = np.unique([labels[i] for i in ours], return_inverse=True)[1].astype(np.int64)
            groups = [patients[i] for i in ours]
            for name in FEATURES:
                guess = predict_across(features[name][ours], y, groups, nearest=name == "thumbnail")
                results.append(Result(target, organ, name, len(ours), *balanced(y, guess)))
    return results


def gate_text(folder: Path) -> list[Result]:
    """The words of balanced closed questions against their answers, within organ and kind; one row per kind."""
    rows, truths = _whole(folder)
    organ_of = {t["slide_id"]: t["organ"] for t in truths}
    patient_of = {t["slide_id"]: row["patient"] for t, row in zip(truths, rows, strict=True)}
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for q in balance([q for t in truths for q in t["questions"]], organ_of):
        groups[q["kind"], organ_of[slide_of(q)]].append(q)
    by_kind: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)
    for (kind, _), questions in groups.items():
        answers = [q["answer"] for q in questions]
        y = np.unique(answers, return_inverse=True)[1].astype(np.int64)
        if np.bincount(y).min() < LEAST:
            continue
        patients = [patient_of[slide_of(q)] for q in questions]
        guess = predict_across(bag_of_words(questions), y, patients, nearest=False)
        by_kind[kind].append((*balanced(y, guess), len(questions)))
    results = []
    for kind, parts in sorted(by_kind.items()):
        score, chance, error, n = (np.array(column, np.float64) for column in zip(*parts, strict=True))
        weight = n / n.sum()
        spread = float(np.sqrt((weight**2 * error**2).sum()))
        mean = float((weight * score).sum()), float((weight * chance).sum())
        results.append(Result("answer", kind, "text only", int(n.sum()), *mean, spread))
    return results


def bag_of_words(questions: Sequence[Question]) -> Array:
    """Bag of words of the question, and the order of its choices: (n, d)."""
    vocabulary = sorted({w for q in questions for w in q["question"].split()})
    choices = sorted({c for q in questions for c in q["choices"]})
    rows = []
    for q in questions:
        words = q["question"].split()
        order = [q["choices"].index(c) if c in q["choices"] else -1 for c in choices]
        rows.append([*(words.count(w) for w in vocabulary), *order, len(words)])
    return np.array(rows, np.float64)


def table(results: Sequence[Result]) -> str:
    """The results as a table, leaks marked."""
    lines = [f"{'target':<11} {'within':<18} {'feature':<16} {'n':>4} {'score':>6} {'chance':>6} {'bar':>6}"]
    for r in results:
        bar = r.chance + 3 * r.error
        mark = "  LEAK" if r.leaks else ""
        lines.append(
            f"{r.target:<11} {r.group:<18} {r.feature:<16} {r.n:>4} {r.score:>6.3f} {r.chance:>6.3f} {bar:>6.3f}{mark}"
        )
    return "\n".join(lines)
