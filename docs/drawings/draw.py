"""Draw the pictures of the concepts: what is shown on them was computed, by the embedded model, on a phantom slide.

    python docs/drawings/draw.py            # writes docs/pictures/{scales,alignment,evidence,selection}.svg

- One slide, drawn by its seed; its regions, patches, cells and vectors; a question and what its answer rests on.
- Words are those of the slide's truth. The only thing that is sketched is the matrix of a batch.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sheet import Pixels, Sheet

import hwsi
from hwsi.features import SlideFeatures
from hwsi.hierarchy import CELL_TYPES, patch_label, region_label, select_patches
from hwsi.inference import Answer
from hwsi.inference.space import load_space
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
SPEC = Spec(seed=35, diagnosis="invasive ductal carcinoma", width_um=2304, height_um=2304)
QUESTION, CHOICES = "Is the lesion malignant?", ("yes", "no")
KEPT = 16


@dataclass(frozen=True)
class Shown:
    """What the pictures are made of."""

    slide: Any
    features: SlideFeatures
    truth: dict[str, Any]
    phrases: dict[tuple[int, int], str]
    answer: Answer

    @property
    def region(self) -> int:
        """Of the regions that reach over the edge of the tissue, the fullest."""
        tree = self.features.hierarchy
        empty = np.bincount(tree.patches.region[tree.patches.background], minlength=len(tree.regions))
        return int(np.argmax(tree.regions.tissue * (empty > 0)))

    def patches(self) -> NDArray[np.int64]:
        """Indices of the patches of that region that hold tissue."""
        patches = self.features.hierarchy.patches
        return np.flatnonzero((patches.region == self.region) & ~patches.background)

    def kept(self) -> NDArray[np.int64]:
        """Indices of the patches of that region that get tokens of their own."""
        rows = self.patches()
        return rows[select_patches(self.features.patch["patch-nano"][rows], KEPT)]

    def label(self, patch: int) -> str:
        """Citable name of a patch."""
        tree = self.features.hierarchy
        row, col = tree.patches.row_col[patch]
        return patch_label(
            int(tree.patches.region[patch]), int(row), int(col), tree.regions.size0 // tree.patches.size0
        )

    def read(self, x0: float, y0: float, side0: float, side_px: int) -> Pixels:
        """A square of the slide, ``side_px`` wide."""
        mpp = self.slide.mpp * side0 / side_px
        return np.asarray(self.slide.read(int(x0), int(y0), side_px, mpp), np.uint8)


def main() -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.svs"
        write_phantom(path, SPEC)
        truth = json.loads(path.with_suffix(".truth.json").read_text("utf-8"))
        with np.load(path.with_suffix(".patches.npz")) as table:
            phrases = {
                (int(row), int(col)): str(words)
                for (row, col), words in zip(table["grid"], table["phrase"], strict=True)
            }
        session = hwsi.study(path, out=folder)
        answer = session.ask(QUESTION, choices=CHOICES)
        features = hwsi.load_features(next(Path(folder).glob("features/*.h5")))
        with hwsi.open_slide(path) as slide:
            shown = Shown(slide, features, truth, phrases, answer)
            for name, draw in (
                ("scales", scales), ("alignment", alignment), ("evidence", evidence), ("selection", selection),
            ):  # fmt: skip
                draw(shown).save(PICTURES / f"{name}.svg")


def scales(shown: Shown) -> Sheet:
    """The slide, one of its regions, a patch of that, a cell of that; each with its unit of language."""
    sheet = Sheet(960, 366, "Four scales of a slide and their units of language")
    tree, side = shown.features.hierarchy, 204
    patch = shown.kept()[len(shown.kept()) // 2]
    cell = clearest_cell(shown, int(patch))
    cell_side = 24.0 / shown.slide.mpp
    squares = [
        (np.zeros(2), float(max(shown.slide.width0, shown.slide.height0))),
        (tree.regions.xy[shown.region].astype(float), float(tree.regions.size0)),
        (tree.patches.xy[patch].astype(float), float(tree.patches.size0)),
        (tree.cells.xy[cell].astype(float) - cell_side / 2, cell_side),
    ]
    words = [
        ("slide", f"{squares[0][1] * shown.slide.mpp / 1000:.1f} mm", "paragraph: the report"),
        ("region " + region_label(shown.region), f"{squares[1][1] * shown.slide.mpp / 1000:.0f} mm", "sentence"),
        ("patch " + shown.label(int(patch)), f"{squares[2][1] * shown.slide.mpp:.0f} µm", "phrase"),
        ("cell", "about 10 µm", "word"),
    ]
    texts = unit_texts(shown, int(patch), cell)
    for k, (xy, side0) in enumerate(squares):
        x, y = 24 + k * (side + 32), 20
        sheet.picture(x, y, side, side, shown.read(*xy, side0, 2 * side))
        sheet.box(x, y, side, side)
        if k < 3:
            inner, inner0 = squares[k + 1]
            at, w = (inner - xy) / side0 * side, inner0 / side0 * side
            sheet.box(x + at[0], y + at[1], w, w, "on-picture")
            for corner in (0, 1):
                sheet.line(x + at[0] + w, y + at[1] + corner * w, x + side + 32, y + corner * side, "thin")
        else:
            first, last = tree.cells.contour_ptr[cell : cell + 2]
            sheet.outline((tree.cells.contour_xy[first:last] - xy) / side0 * side + (x, y), "on-picture")
        name, size, unit = words[k]
        sheet.text(x, y + side + 24, name, "title")
        sheet.text(x + side, y + side + 24, size, "small end")
        sheet.text(x, y + side + 46, unit)
        for n, part in enumerate(wrapped(texts[k], 30)[:4]):
            sheet.text(x, y + side + 68 + 16 * n, part, "small")
    return sheet


def clearest_cell(shown: Shown, patch: int) -> int:
    """Of the tumour cells well inside a patch, the largest round one; where there is none, of all."""
    tree = shown.features.hierarchy
    ours = np.flatnonzero(tree.cells.patch == patch)
    inside = (
        np.abs(tree.cells.xy[ours] - tree.patches.xy[patch] - tree.patches.size0 / 2).max(1) < tree.patches.size0 / 3
    )
    tumour = tree.cells.type[ours] == CELL_TYPES.index("neoplastic")
    return int(ours[np.argmax([presence(tree.cells.contour(m)) for m in ours] * inside * (1 + tumour))])


def presence(outline: NDArray[np.float32]) -> float:
    """How well (n, 2) vertices show as a nucleus: large and round."""
    points = outline.astype(np.float32)
    area = cv2.contourArea(points)
    return float(area**1.5 / cv2.arcLength(points, closed=True) ** 2)


def unit_texts(shown: Shown, patch: int, cell: int) -> list[str]:
    """Words of the truth: of the report, of the region, of the patch, of the cell."""
    tree = shown.features.hierarchy
    kind = CELL_TYPES[int(tree.cells.type[cell])]
    region = tree.regions.grid[shown.region].tolist()
    sentence = next(r["sentence"] for r in shown.truth["regions"] if list(r["grid"]) == region)
    return [f"“{shown.truth['caption']}”", f"“{sentence}”", f"“{phrase_of(shown, patch)}”", f"“{kind}”"]


def phrase_of(shown: Shown, patch: int) -> str:
    """The phrase of a patch, by its place in the slide's grid of patches."""
    tree = shown.features.hierarchy
    row, col = (tree.patches.xy[patch][::-1] // tree.patches.size0).tolist()
    return shown.phrases[row, col]


def alignment(shown: Shown) -> Sheet:
    """Phrases of patches look for the patch that says them best; beside it the contrast of a batch."""
    sheet = Sheet(960, 360, "Text units look for the tokens that say them best")
    tree, space = shown.features.hierarchy, load_space()
    by_phrase: dict[str, list[int]] = {}
    for patch in shown.patches().tolist():
        by_phrase.setdefault(phrase_of(shown, patch), []).append(patch)
    phrases = list({phrase.partition(" ")[0]: phrase for phrase in by_phrase}.values())[:3]
    rows = sorted(patch for phrase in phrases for patch in by_phrase[phrase][:3])
    cosine = space.texts(phrases) @ space.tissue(shown.features).patch[rows].T
    side, left, width = 58, 24, 196
    sheet.text(left, 28, "patches of a slide", "title")
    sheet.text(left, 322, "phrases of its report", "title")
    sheet.text(
        left, 344, "each looks for the patch that says it best; the mean of what they find is the score", "small"
    )
    xs = [left + k * (3 * width - 14 - side) / (len(rows) - 1) for k in range(len(rows))]
    for x, patch in zip(xs, rows, strict=True):
        sheet.picture(x, 42, side, side, shown.read(*tree.patches.xy[patch], tree.patches.size0, 2 * side))
    for n, (words, found) in enumerate(zip(phrases, cosine, strict=True)):
        at, best = left + width * n, int(np.argmax(found))
        middle = at + (width - 14) / 2
        for k, x in enumerate(xs):
            sheet.line(middle, 226, x + side / 2, 102, "mark" if k == best else "thin")
        sheet.box(at, 226, width - 14, 74)
        lines = wrapped(words, 27)
        for m, part in enumerate(lines):
            sheet.text(middle, 268 - 8 * len(lines) + 16 * m, part, "small mid")
    matrix(sheet, 700, 84)
    return sheet


def matrix(sheet: Sheet, left: float, top: float) -> None:
    """The scores of a batch: rows are slides, columns reports; right are those on the diagonal."""
    cell, n = 42, 5
    sheet.text(left, 28, "a batch", "title")
    sheet.text(left, top - 10, "its reports →", "small")
    sheet.text(left - 10, top + 14, "its", "small end")
    sheet.text(left - 10, top + 30, "slides ↓", "small end")
    for row in range(n):
        for col in range(n):
            sheet.box(left + col * cell, top + row * cell, cell - 4, cell - 4, "bar" if row == col else "faint")
    sheet.text(left, top + cell * n + 18, "each slide fits its own report best,", "small")
    sheet.text(left, top + cell * n + 35, "each report its own slide", "small")


def evidence(shown: Shown) -> Sheet:
    """The slide's regions, coloured by what each is worth to an answer; how that is measured."""
    sheet = Sheet(960, 372, "What an answer rests on, by leaving out and keeping alone")
    tree, side, left, top = shown.features.hierarchy, 292, 24, 48
    side0 = float(max(shown.slide.width0, shown.slide.height0))
    worth = {e.label: e.score for e in shown.answer.evidence if e.scale == "region"}
    most = max(worth.values(), default=1.0)
    sheet.text(left, 30, f"“{QUESTION}” → {shown.answer.text}", "title")
    sheet.picture(left, top, side, side, shown.read(0, 0, side0, 2 * side))
    for r, xy in enumerate(tree.regions.xy):
        x, y = (left, top) + xy / side0 * side
        w = min(tree.regions.size0 / side0 * side, left + side - x)
        h = min(tree.regions.size0 / side0 * side, top + side - y)
        score = worth.get(region_label(r), 0.0)
        sheet.box(x, y, w, h, "plate", opacity=0.5 * max(score, 0) / most)
        sheet.box(x, y, w, h, "on-picture", opacity=0.25 + 0.75 * max(score, 0) / most)
        sheet.box(x + 4, y + 4, 28, 17, "plate")
        sheet.text(x + 9, y + 17, region_label(r), "label")
    left = 348
    sheet.text(left, 30, "what regions are worth, in nats", "title")
    ranked = sorted(worth.items(), key=lambda pair: -pair[1])[:9]
    for n, (label, score) in enumerate(ranked):
        y = top + 4 + n * 30
        sheet.text(left, y + 14, label)
        sheet.box(left + 36, y, max(1.0, 150 * score / most), 18, "bar")
        sheet.text(left + 36 + max(1.0, 150 * score / most) + 6, y + 14, f"{score:.2f}", "small")
    below = top + 4 + 30 * len(ranked) + 22
    sheet.text(left, below, "words with the slide against without it:", "small")
    sheet.text(left, below + 17, f"{shown.answer.visual_reliance:+.2f} nats a token", "small")
    icons(sheet, 650, top)
    return sheet


def icons(sheet: Sheet, left: float, top: float) -> None:
    """Three ways to show a slide of nine regions to the model."""
    sheet.text(left, 30, "how it is measured", "title")
    ways = (
        ("all of it", "the answer, and how likely it is", lambda k: True),
        ("all but one", "what the answer loses", lambda k: k != 4),
        ("one alone", "what the answer gains by it", lambda k: k == 4),
    )
    for n, (name, means, there) in enumerate(ways):
        y = top + 4 + n * 92
        for k in range(9):
            sheet.box(left + k % 3 * 24, y + k // 3 * 24, 21, 21, "bar" if there(k) else "empty")
        sheet.text(left + 88, y + 30, name)
        sheet.text(left + 88, y + 48, means, "small")
    sheet.text(left, top + 4 + 3 * 92 + 8, "worth = mean of loss and gain", "small")


def selection(shown: Shown) -> Sheet:
    """A region with what happens to its patches."""
    sheet = Sheet(960, 470, "Which patches of a region get tokens of their own")
    tree, side, left, top = shown.features.hierarchy, 420, 24, 28
    corner, side0 = tree.regions.xy[shown.region].astype(float), float(tree.regions.size0)
    rows, kept = shown.patches(), set(shown.kept().tolist())
    redundant = set(rows[redundant_among(shown.features.patch["patch-nano"][rows])].tolist()) - kept
    sheet.picture(left, top, side, side, shown.read(*corner, side0, 2 * side))
    all_of_it = np.flatnonzero(tree.patches.region == shown.region)
    w = tree.patches.size0 / side0 * side
    for patch in all_of_it:
        x, y = (left, top) + (tree.patches.xy[patch] - corner) / side0 * side
        if patch not in kept:
            sheet.box(x, y, w, w, "veil")
    for patch in all_of_it:
        x, y = (left, top) + (tree.patches.xy[patch] - corner) / side0 * side
        sheet.box(x, y, w, w, "thin")
        if patch in redundant:
            sheet.line(x + 6, y + 6, x + w - 6, y + w - 6, "strike")
        if patch in kept:
            sheet.box(x + 1.5, y + 1.5, w - 3, w - 3, "on-picture")
            name = shown.label(int(patch)).partition(".")[2]
            sheet.box(x + 4, y + 4, 7 + 7.5 * len(name), 16, "plate")
            sheet.text(x + 7, y + 16, name, "label")
    counts = (
        (
            f"{len(all_of_it)} patches of region {region_label(shown.region)}",
            "a full grid; its vector is made of all that hold tissue",
        ),
        (f"{len(all_of_it) - len(rows)} without tissue", "marked when the grid is laid, never encoded"),
        (
            f"{len(redundant)} redundant (struck through)",
            "too much like the others: mean cosine above mean + deviation",
        ),
        (f"{len(rows) - len(redundant) - len(kept)} that others cover", "left out: the kept ones stand for them"),
        (f"{len(kept)} kept", "tokens of their own: one for the patch, one for its cells"),
    )
    for n, (what, why) in enumerate(counts):
        y = top + 40 + n * 76
        sheet.text(490, y, what, "title")
        sheet.text(490, y + 22, why, "small")
    return sheet


def redundant_among(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of (n, d) patches say what many say, as ``hwsi.hierarchy.selection`` has it."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = ((unit @ unit.T).sum(1) - 1) / (len(unit) - 1)
    return np.asarray(likeness > likeness.mean() + likeness.std())


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` letters, where words allow."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
