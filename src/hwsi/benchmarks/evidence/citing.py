"""Whether what is shown for an answer holds what the question is about, and whether it is what the answer rests on.

- *First box*: the leading region or patch of the evidence holds the thing (``truth_places.py``); what a random box of
  the same scale would hit stands beside it.
- *Causal citations*: the labels that the sentences of a report cite. A set of citations supports its sentence if no
  more than one in sixteen like it, drawn elsewhere, is as good (recall: sentences whose set does); a citation counts
  (precision) if leaving it out costs more than leaving out 95 of 100 random ones of its kind. No judge is asked.
- *Evidence alone*: the closed questions again, with at most 16 tokens' worth of evidence and what stands above it.
"""

import numpy as np

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Material
from hwsi.benchmarks.evidence.truth_places import holding
from hwsi.inference.evidence import SLIDE, Bool, Int, Value, depths
from hwsi.inference.evidence.attribution import Claims, Mode, attribute
from hwsi.inference.evidence.masks import matched_sets
from hwsi.inference.evidence.verdict import CHANCE, RANDOM_SETS, Claim, judge
from hwsi.inference.evidence.worth import ancestors, below
from hwsi.inference.resting import MAX_EVIDENCE

TOKENS = 16
_PER_SLIDE = 4


def first_box(material: Material, seed: int) -> list[Line]:
    """Share of first boxes that hold what the question is about, for answers that are right and name a finding."""
    scores: dict[Mode, list[float]] = {mode: [] for mode in Mode}
    chance, patients = [], []
    for case in material.some(12, seed):
        holds = holding(case)
        if holds is None or not holds.any():
            continue
        chosen = case.slide.session.choose(case.words, case.choices)
        if case.choices[chosen.chosen] != case.answer:
            continue
        depth = depths(chosen.claims.parent)
        patients.append(case.patient)
        for mode in Mode:
            best = attribute(chosen.claims, mode, limit=MAX_EVIDENCE).worth.best(0, 1)
            scores[mode].append(float(bool(best) and bool(holds[best[0][0]])))
            if mode is Mode.FULL:
                like = depth == depth[best[0][0]] if best else depth > SLIDE
                chance.append(float(holds[like].mean()))
    beside = {"random box": float(np.mean(chance)) if chance else float("nan")}
    return [
        line("first-box", "first box holds it, full", scores[Mode.FULL], patients, floor=0.85, aim=0.95, beside=beside),
        line("first-box", "first box holds it, verify", scores[Mode.VERIFY], patients, beside=beside),
        line("first-box", "first box holds it, cheap", scores[Mode.CHEAP], patients, beside=beside),
    ]


def citations(material: Material, seed: int) -> list[Line]:
    """Causal precision and recall of what the sentences of the reports cite."""
    precise, of_citation, supported, of_sentence = [], [], [], []
    uncited = 0
    for slide in material.slides:
        session = slide.session
        said = session.say_report()
        report, claims = session.report(evidence=False, said=said), session.sentence_claims(said)
        node_of = {n.label: i for i, n in enumerate(session.nodes) if n.scale in ("region", "patch")}
        for u, statement in enumerate(report.statements):
            cited = np.array([node_of[label] for label in statement.cites if label in node_of], np.int64)
            if not len(cited):
                uncited += 1
                continue
            value = _unit(claims.value, u)
            support = judge(claims.parent, claims.place, value, [Claim(cited, claims.reliance[u])])[0]
            alike = support.sets and support.p_value <= max(CHANCE, 1 / (support.sets + 1))
            supported.append(float(bool(alike)))
            of_sentence.append(slide.patient)
            for node in cited:
                precise.append(float(_counts(claims, value, int(node), seed)))
                of_citation.append(slide.patient)
    beside = {"sentences without a citation": float(uncited)}
    return [
        line("citations", "causal precision of citations", precise, of_citation, floor=0.85, aim=0.95),
        line("citations", "causal recall of citations", supported, of_sentence, floor=0.7, aim=0.85, beside=beside),
    ]


def _unit(value: Value, u: int) -> Value:
    return lambda keep: np.asarray(value(keep)[:, [u]])


def _counts(claims: Claims, value: Value, node: int, seed: int) -> bool:
    """Whether more is lost without a citation than without 95 of 100 random nodes of its kind."""
    parent, place = claims.parent, claims.place
    like = matched_sets(parent, np.array([node]), place, RANDOM_SETS, np.random.default_rng([seed, node]))
    under = below(parent)
    passes = np.stack([np.ones(len(parent), bool), *(~under[s].any(0) for s in (np.array([node]), *like))])
    values = value(passes)[:, 0]
    lost = values[0] - values[1:]
    return bool(len(like)) and bool(lost[0] > np.quantile(lost[1:], 0.95))


def evidence_alone(material: Material, seed: int) -> list[Line]:
    """Accuracy with nothing but 16 tokens of evidence, as a share of the accuracy with the slide's parts."""
    whole, alone, random, patients = [], [], [], []
    rng = np.random.default_rng([seed, 8])
    for case in material.some(_PER_SLIDE, seed):
        session = case.slide.session
        chosen = session.choose(case.words, case.choices)
        parent = chosen.claims.parent
        worth = attribute(chosen.claims, Mode.FULL, limit=MAX_EVIDENCE).worth
        ranked = np.array([n for n, _ in worth.best(0, len(parent))], np.int64)
        shuffled = rng.permutation(np.flatnonzero(depths(parent) > SLIDE))
        keeps = np.stack([_within(session.node_tokens, parent, order) for order in (ranked, shuffled)])
        found = chosen.scores(keeps).argmax(1)
        whole.append(float(case.choices[chosen.chosen] == case.answer))
        alone.append(float(case.choices[int(found[0])] == case.answer))
        random.append(float(case.choices[int(found[1])] == case.answer))
        patients.append(case.patient)
    base = float(np.mean(whole))
    scores = np.array(alone)

    def kept(counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        full = float(counts @ np.array(whole))
        return float(counts @ scores) / full if full else float("nan")

    beside = {"accuracy": float(scores.mean()), "whole slide": base, "random tokens": float(np.mean(random))}
    what = f"accuracy kept with {TOKENS} tokens of evidence alone"
    return [line("evidence-alone", what, alone, patients, figure=kept, floor=0.95, aim=0.99, beside=beside)]


def _within(tokens: Int, parent: Int, order: Int) -> Bool:
    """Keep mask (N,): of ``order`` as many nodes, each with its ancestors, as have at most 16 tokens together."""
    keep = np.zeros(len(parent), bool)
    keep[: SLIDE + 1] = True
    spent = 0
    for node in order:
        new = ancestors(parent, int(node)) & ~keep
        cost = int(tokens[new].sum())
        if spent + cost <= TOKENS:
            keep |= new
            spent += cost
    return keep
