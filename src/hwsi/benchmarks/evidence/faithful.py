"""How faithful the map of an answer is: LDS, symmetric relevance gain, and sanity.

- LDS: rank correlation of the answer's value under 32 fresh random halves of the slide, all of one size, with the sum
  of the map over what each half keeps; random scores stand beside it, near zero by the fixed size.
- Symmetric relevance gain: regions and patches taken away best last against best first, area between the two curves of
  the value; 0 is a random order, 1 the greedy order of an oracle that tries every piece at every step.
- Sanity: the map must change with the question, with the slide and with the weights of the model (rank correlation or
  overlap with the map it should not be like), and a map of stain or of tissue density alone must not do as well.

Source: Adebayo et al. 2018 (sanity), Bluecher et al. 2024 (SRG), Park et al. 2023 (LDS).
"""

import copy

import numpy as np
import torch

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, Material
from hwsi.inference.evidence import PATCH, REGION, Bool, Float64, Int, Value, Worth, depths
from hwsi.inference.evidence.attribution import Mode, attribute, rank_correlation, spread
from hwsi.inference.evidence.masks import fixed_size_masks
from hwsi.inference.evidence.worth import below
from hwsi.inference.resting import MAX_EVIDENCE
from hwsi.inference.session import Session
from hwsi.model.modeling import HwsiForConditionalGeneration

HALVES = 32
_ORDERS, _ORACLE = 8, 10
_PER_SLIDE = 3
_TOP = 5


def lds(material: Material, seed: int) -> list[Line]:
    """Rank correlation of the maps of the three modes, and of random scores, with fresh halves."""
    cases = material.some(_PER_SLIDE, seed)
    patients = [c.patient for c in cases]
    rng = np.random.default_rng([seed, 11])
    scores: dict[str, list[float]] = {"cheap": [], "verify": [], "full": [], "random": []}
    for case in cases:
        claims = case.slide.session.choose(case.words, case.choices).claims
        halves = fixed_size_masks(claims.parent, HALVES, rng)
        truth = claims.value(halves)[:, 0]
        for mode in Mode:
            own = _map(attribute(claims, mode, limit=MAX_EVIDENCE).worth, claims.parent)
            scores[mode.value].append(rank_correlation(truth, halves @ own))
        drawn = rng.standard_normal((20, len(claims.parent)))
        scores["random"].append(float(np.mean([rank_correlation(truth, halves @ d) for d in drawn])))
    beside = {"random": float(np.mean(scores["random"]))}
    return [
        line("lds", "LDS, full", scores["full"], patients, floor=0.6, aim=0.8, beside=beside),
        line("lds", "LDS, cheap", scores["cheap"], patients, floor=0.55, aim=0.75, beside=beside),
        line("lds", "LDS, verify", scores["verify"], patients, beside=beside),
        line("lds", "LDS, random", scores["random"], patients, floor=0.05, aim=0.02, less=True),
    ]


def relevance_gain(material: Material, seed: int) -> list[Line]:
    """Symmetric relevance gain over regions and their leading patches, between a random order and an oracle."""
    cases = material.some(2, seed)
    patients = [c.patient for c in cases]
    scores: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    for i, case in enumerate(cases):
        claims = case.slide.session.choose(case.words, case.choices).claims
        found = {mode: _map(attribute(claims, mode, limit=MAX_EVIDENCE).worth, claims.parent) for mode in Mode}
        pieces = _pieces(found[Mode.FULL], claims.parent)
        if len(pieces) < 3:
            for of_mode in scores.values():
                of_mode.append(float("nan"))
            continue
        rng = np.random.default_rng([seed, i])
        random = float(np.mean([_gain(rng.permutation(pieces), claims.parent, claims.value) for _ in range(_ORDERS)]))
        best = _gain(_oracle(pieces, claims.parent, claims.value), claims.parent, claims.value)
        for mode in Mode:
            order = pieces[np.argsort(-found[mode][pieces], kind="stable")]
            gain = _gain(order, claims.parent, claims.value)
            scores[mode].append((gain - random) / (best - random) if best - random > 1e-6 else float("nan"))
    return [
        line("srg", "symmetric relevance gain, full", scores[Mode.FULL], patients, floor=0.6, aim=0.85),
        line("srg", "symmetric relevance gain, verify", scores[Mode.VERIFY], patients),
        line("srg", "symmetric relevance gain, cheap", scores[Mode.CHEAP], patients),
    ]


def sanity(material: Material, seed: int) -> list[Line]:
    """Maps that should differ, and maps of nothing but stain or density."""
    cases = material.some(2, seed)
    patients = [c.patient for c in cases]
    names = ("weights", "slide", "question", "stain", "density", "itself")
    scores: dict[str, list[float]] = {name: [] for name in names}
    shuffled = _randomised(cases[0].slide.session.model) if cases else None
    for case in cases:
        session = case.slide.session
        claims = session.choose(case.words, case.choices).claims
        own = _verified(session, case)
        depth = depths(claims.parent)
        regions, shown = np.flatnonzero(depth == REGION), np.flatnonzero(np.isin(depth, (REGION, PATCH)))
        halves = fixed_size_masks(claims.parent, HALVES, np.random.default_rng([seed, 5]))
        truth = claims.value(halves)[:, 0]
        scores["itself"].append(rank_correlation(truth, halves @ own))
        tree = session.features.hierarchy
        stain, density = np.zeros(len(own)), np.zeros(len(own))
        cells = np.bincount(tree.cells.patch, minlength=len(tree.patches))
        for n in shown:
            node = session.nodes[int(n)]
            mine = tree.patches.region == node.index if node.scale == "region" else [node.index]
            stain[n], density[n] = float(cells[mine].sum()), float(tree.patches.tissue[mine].sum())
        scores["stain"].append(rank_correlation(truth, halves @ stain))
        scores["density"].append(rank_correlation(truth, halves @ density))
        assert shuffled is not None
        other = Session(shuffled, session.processor, session.features)
        scores["weights"].append(abs(rank_correlation(own[shown], _verified(other, case)[shown])))
        neighbour, second = material.other(case.slide), _second(material, case)
        if neighbour is not None:
            swapped = _verified(neighbour.session, case)
            mine = np.flatnonzero(depths(_parents(neighbour.session)) == REGION)
            k = min(len(mine), len(regions))
            scores["slide"].append(abs(rank_correlation(own[regions][:k], swapped[mine][:k])))
        else:
            scores["slide"].append(float("nan"))
        if second is not None:
            a, b = (set(shown[np.argsort(-m[shown], kind="stable")[:_TOP]]) for m in (own, _verified(session, second)))
            scores["question"].append(len(a & b) / len(a | b))
        else:
            scores["question"].append(float("nan"))
    return [
        line("sanity", "shuffled weights: correlation of the map", scores["weights"], patients, floor=0.2, less=True),
        line("sanity", "another slide: rank correlation, place by place", scores["slide"], patients),
        line("sanity", f"another question: overlap of the first {_TOP}", scores["question"], patients),
        line("sanity", "control: LDS of nuclei alone (stain)", scores["stain"], patients,
             beside={"the map": float(np.nanmean(scores["itself"]))}),
        line("sanity", "control: LDS of tissue density alone", scores["density"], patients,
             beside={"the map": float(np.nanmean(scores["itself"]))}),
    ]  # fmt: skip


def _map(worth: Worth, parent: Int) -> Float64:
    return np.asarray(spread(worth, len(parent))[:, 0])


def _verified(session: Session, case: Case) -> Float64:
    """The map of an option, the truth's, on any session: the question is held, what reads it changes."""
    option = case.choices.index(case.answer)
    claims = session.choose(case.words, case.choices, option).claims
    return _map(attribute(claims, Mode.VERIFY, limit=1).worth, claims.parent)


def _second(material: Material, case: Case) -> Case | None:
    """Another question about the same slide."""
    return next(
        (c for c in material.cases if c.slide is case.slide and c.question["kind"] != case.question["kind"]), None
    )


def _parents(session: Session) -> Int:
    return np.array([n.parent for n in session.nodes], np.int64)


def _randomised(model: HwsiForConditionalGeneration) -> HwsiForConditionalGeneration:
    """The model with every weight matrix shuffled: what is left is its architecture."""
    made = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                flat = weight.reshape(-1)
                weight.copy_(flat[torch.randperm(len(flat), generator=generator)].reshape(weight.shape))
    return made


def _pieces(scores: Float64, parent: Int) -> Int:
    """What is taken away one by one: the regions, the leading one of which is taken patch by patch."""
    depth = depths(parent)
    regions = np.flatnonzero(depth == REGION)
    if not len(regions):
        return regions
    first = regions[np.argmax(scores[regions])]
    patches = np.flatnonzero((depth == PATCH) & (parent == first))
    return np.concatenate([regions[regions != first], patches]) if len(patches) else regions


def _gain(order: Int, parent: Int, value: Value) -> float:
    """Area under the curve that takes the worst first, less that which takes the best first."""
    return _area(order[::-1], parent, value) - _area(order, parent, value)


def _area(order: Int, parent: Int, value: Value) -> float:
    return float(np.mean(value(np.stack([_without(order[:k], parent) for k in range(len(order) + 1)]))[:, 0]))


def _without(pieces: Int, parent: Int) -> Bool:
    return np.asarray(~below(parent)[pieces].any(0)) if len(pieces) else np.ones(len(parent), bool)


def _oracle(pieces: Int, parent: Int, value: Value) -> Int:
    """Greedy order: at every step the piece whose loss hurts the most; after ``_ORACLE`` steps by the last look."""
    left = [int(p) for p in pieces]
    order: list[int] = []
    while left:
        after = value(np.stack([_without(np.array([*order, p]), parent) for p in left]))[:, 0]
        ranked = np.argsort(after, kind="stable")
        take = [left[i] for i in (ranked[:1] if len(order) < _ORACLE else ranked)]
        order += take
        left = [p for p in left if p not in take]
    return np.array(order, np.int64)
