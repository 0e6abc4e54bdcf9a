"""The report of a phantom slide: a small grammar over measured attributes.

- One sentence per fact, then one per region that starts with its citation; 60 to 120 words in all.
- Every sentence is made of clauses and each clause states one attribute (``report_units``), so that a report can be
  scored clause by clause and citation by citation.
- Paraphrases are drawn by the seed, never by an answer. A fact that has no clear class is left out, not guessed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS, PATTERNS
from hwsi.phantom.questions import region_text
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import PLEOMORPHISM, TIL_PER_MM2, Measured, Region

MIN_WORDS, MAX_WORDS = 60, 120
_MAX_REGIONS = 6
MIXED, ALSO, TUMOROUS = 0.3, 0.15, 0.1
"""Shares of a region's tissue: of the second tissue from which on none is "mostly" there, and from which on it is told
of; of tumour from which on its growth and nuclei are."""
_NUMBERS = ("no", "one", "two", "three")
_DEGREES = ("mild", "moderate", "marked")
_RATES = ("low", "intermediate", "high")
_AMOUNTS = ("few", "moderate", "many")
_TUBULES = ("more than 75 %", "10 to 75 %", "less than 10 %")
_EXTENTS = ("less than a third", "about half", "more than two thirds")

# attribute -> paraphrases; {v} is the value's word, and "no"/"yes" wordings are pools of their own
FACTS: dict[str, tuple[str, ...]] = {
    "specimen": ("{organ} specimen with {v}.", "{organ} tissue with {v}.", "This {lower} specimen shows {v}."),
    "organ": ("{organ} specimen.", "{organ} tissue.", "This is a {lower} specimen."),
    "diagnosis": ("The diagnosis is {v}.", "The tissue shows {v}.", "This is {v}."),
    "pattern": ("The growth pattern is mostly {v}.", "The predominant growth pattern is {v}.", "It grows mostly {v}."),
    "grade": ("The histologic grade is {v}.", "The tumour is of grade {v}.", "It is grade {v}."),
    "tubule_score": ("Tubules form {v} of the tumour.", "Tubule formation is {v}.", "Of the tumour {v} forms tubules."),
    "pleomorphism_score": (
        "Nuclear pleomorphism is {v}.",
        "The nuclei show {v} pleomorphism.",
        "There is {v} nuclear pleomorphism.",
    ),
    "mitosis_score": ("Mitotic activity is {v}.", "The mitotic activity is {v}.", "There is {v} mitotic activity."),
    "nucleoli": (
        "Prominent nucleoli are {v}.",
        "Prominent nucleoli of the tumour are {v}.",
        "In the tumour prominent nucleoli are {v}.",
    ),
    "germinal": (
        "Germinal centres are {v}.",
        "Germinal centres of the node are {v}.",
        "In the node germinal centres are {v}.",
    ),
    "necrosis": ("Necrosis is {v}.", "Necrosis of the tissue is {v}.", "In the tissue necrosis is {v}."),
    "keratin": (
        "Keratinisation is {v}.",
        "Keratinisation of the tumour is {v}.",
        "In the tumour keratinisation is {v}.",
    ),
    "mucin": ("Mucin pools are {v}.", "Pools of mucin are {v}.", "In the tissue mucin pools are {v}."),
    "vascular_invasion": (
        "Vascular invasion is {v}.",
        "Invasion of vessels is {v}.",
        "In the tumour vascular invasion is {v}.",
    ),
    "til": (
        "The stroma shows {v} inflammatory cells.",
        "There are {v} inflammatory cells in the stroma.",
        "In the stroma there are {v} inflammatory cells.",
    ),
    "inflammatory": ("Among them {v} predominate.", "Most of them are {v}.", "They are mostly {v}."),
    "focality": ("The tumour forms {v}.", "The tumour grows as {v}.", "The tumour lies in {v}."),
    "extent": ("It takes {v} of the tissue.", "The tumour takes {v} of the tissue.", "Tumour is {v} of the tissue."),
    "neoplastic": (
        "There is no tumour on this slide.",
        "No tumour is seen on this slide.",
        "The tissue shows no tumour.",
    ),
    "content": (
        "The predominant tissue is {v}.",
        "Most of the tissue is {v}.",
        "Most of what is seen is {v}.",
    ),
    "goblet_cells": ("There are {v} goblet cells.", "The glands show {v} goblet cells.", "Goblet cells are {v}."),
    "artefacts": (
        "The slide shows {v} as an artefact.",
        "An artefact covers tissue: {v}.",
        "Part of the tissue is covered by {v}.",
    ),
}
NO_ARTEFACT = ("No artefact covers the tissue.", "The tissue is free of artefacts.", "There is no artefact.")
CAPTIONS = ("{organ} tissue with {v}.", "A {lower} specimen that shows {v}.", "{v} in {lower} tissue.")


@dataclass(frozen=True)
class Unit:
    """A clause of the report: its words, the attribute it states, and where its truth lies."""

    text: str
    attribute: str
    regions: tuple[tuple[int, int], ...] = ()
    patches: tuple[tuple[int, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "text": self.text,
            "attribute": self.attribute,
            "regions": [list(r) for r in self.regions],
            "patches": [list(p) for p in self.patches],
        }


def slide_facts(spec: Spec, slide: dict[str, Any]) -> list[tuple[str, str]]:
    """(attribute, word of its value), in the order of a report; unclear ones are left out."""
    facts: list[tuple[str, str]] = []

    def add(attribute: str, value: str | None) -> None:
        if value is not None:
            facts.append((attribute, value))

    def of(names: tuple[str, ...], value: int | None) -> str | None:
        return None if value is None else names[value]

    def presence(value: bool | None) -> str | None:
        return None if value is None else "present" if value else "absent"

    n = slide["fragments"]
    pieces = None if n is None else f"{_NUMBERS[n]} tissue fragment{'s' if n > 1 else ''}"
    add("specimen" if pieces else "organ", pieces or spec.organ)
    add("diagnosis", spec.diagnosis)
    if slide["neoplastic"]:
        add("pattern", slide["pattern"])
        add("grade", None if slide["grade"] is None else str(slide["grade"]))
        for name, words in (
            ("tubule_score", _TUBULES),
            ("pleomorphism_score", _DEGREES),
            ("mitosis_score", _RATES),
        ):
            score = slide[name]
            add(name, None if score is None else words[score - 1])
        add("nucleoli", presence(slide["nucleoli"]))
    else:
        add("neoplastic", "no")
        parts = slide["contents"]
        add("content", max(parts, key=lambda name: float(parts[name])))
    add("necrosis", presence(slide["necrosis"]))
    if spec.organ == "lymph node":
        add("germinal", presence(slide["germinal"]))
    if spec.organ == "lung":
        add("keratin", presence(slide["keratin"]))
    if spec.organ == "colon":
        add("mucin", presence(slide["mucin"]))
        add("goblet_cells", of(("few", "many"), slide["goblet_cells"]))
    if spec.malignant:
        add("vascular_invasion", presence(slide["vascular_invasion"]))
    if spec.organ != "lymph node":
        add("til", of(_AMOUNTS, slide["til"]))
        add("inflammatory", slide["inflammatory"] if slide["til"] is not None else None)
    if slide["neoplastic"]:
        add("focality", slide["focality"])
        add("extent", of(_EXTENTS, slide["extent"]))
    if slide["artefacts"]:
        add("artefacts", " and ".join(slide["artefacts"]))
    return facts


def region_clauses(attrs: dict[str, Any], organ: str, tumorous: float = TUMOROUS) -> list[tuple[str, str]]:
    """(attribute, words) of the clauses that describe one region; the first is always its content.

    ``tumorous``: the share of tumour from which on its growth and nuclei are told.
    """
    parts = attrs["contents"]
    order = sorted(parts, key=lambda name: -parts[name])
    main, second = order[0], order[1]
    mixed = parts[second] > MIXED
    also = f"and {second}" if parts[second] > ALSO else ""
    clauses = [("content", main if mixed else f"mostly {main}")]
    if also and main != "tumour":
        clauses.append(("content", also))
    if parts["tumour"] > tumorous and attrs["pattern"]:
        clauses.append(("pattern", f"of {attrs['pattern']} growth"))
    if also and main == "tumour":  # "tumour of solid growth and stroma"
        clauses.append(("content", also))
    if parts["tumour"] > tumorous:
        score = attrs["pleomorphism_score"]
        if score:
            clauses.append(("pleomorphism_score", f"with {_DEGREES[score - 1]} nuclei"))
        if attrs["mitosis_score"] == 3:
            clauses.append(("mitosis_score", "with many mitoses"))
    if attrs["germinal"]:
        clauses.append(("germinal", "with germinal centres"))
    if attrs["necrosis"]:
        clauses.append(("necrosis", "with necrosis"))
    if attrs["keratin"]:
        clauses.append(("keratin", "with keratin"))
    if attrs["mucin"]:
        clauses.append(("mucin", "with mucin"))
    if attrs["til"] is not None and organ != "lymph node":
        clauses.append(("til", f"with {_AMOUNTS[attrs['til']]} inflammatory cells"))
    return clauses


def _join(clauses: list[tuple[str, str]]) -> str:
    """Clauses as one sentence: the run of "with ..." becomes a list."""
    plain = [words for _, words in clauses if not words.startswith("with ")]
    listed = [words.removeprefix("with ") for _, words in clauses if words.startswith("with ")]
    text = " ".join(plain)
    if listed:
        text += " with " + (", ".join(listed[:-1]) + " and " if len(listed) > 1 else "") + listed[-1]
    return text + "."


def region_sentences(spec: Spec, measured: Measured) -> dict[tuple[int, int], str]:
    """Sentence of each region that holds tissue, without its citation; capitalised."""
    told = {}
    for region in measured.regions:
        if region.tissue >= 0.05:
            text = _join(region_clauses(region.attrs, spec.organ))
            told[region.grid] = text[0].upper() + text[1:]
    return told


Wording = dict[str, int]
"""Attribute -> which of its paraphrases is taken."""
_CLEAN, _CAPTION = "no artefact", "caption"


def draw_wording(rng: np.random.Generator) -> Wording:
    """Which paraphrase of each attribute a report takes, and its caption."""
    pools = {**FACTS, _CLEAN: NO_ARTEFACT, _CAPTION: CAPTIONS}
    return {name: int(rng.integers(len(pool))) for name, pool in pools.items()}


def slide_units(spec: Spec, slide: dict[str, Any], wording: Wording) -> list[Unit]:
    """What a report says of the whole slide, a sentence for each attribute."""
    units = []
    for attribute, value in slide_facts(spec, slide):
        text = FACTS[attribute][wording[attribute]].format(v=value, **_names(spec))
        units.append(Unit(text[0].upper() + text[1:], attribute))
    if not slide["artefacts"]:
        units.append(Unit(NO_ARTEFACT[wording[_CLEAN]], "artefacts"))
    return units


def caption_of(spec: Spec, slide: dict[str, Any], wording: Wording) -> str:
    """One sentence: diagnosis, grade, necrosis."""
    value = spec.diagnosis
    if slide["grade"]:
        value += f" of grade {slide['grade']}"
    if slide["necrosis"]:
        value += " with necrosis"
    text = CAPTIONS[wording[_CAPTION]].format(v=value, **_names(spec))
    return text[0].upper() + text[1:]


def _names(spec: Spec) -> dict[str, str]:
    return {"organ": spec.organ.capitalize(), "lower": spec.organ}


def write_report(spec: Spec, measured: Measured) -> tuple[str, list[Unit], str]:
    """Report, its clauses and the caption. Regions are cited as ``{R:row,col}``."""
    wording = draw_wording(np.random.default_rng([spec.seed, 41]))
    units = slide_units(spec, measured.slide, wording)
    sentences = [u.text for u in units]
    told = sorted((r for r in measured.regions if r.tissue >= 0.05), key=lambda r: (-r.tissue, r.grid))
    chosen: list[Region] = []
    words = sum(len(s.split()) for s in sentences)
    for region in told[:_MAX_REGIONS]:
        length = 1 + len(_join(region_clauses(region.attrs, spec.organ)).split())
        if words + length <= MAX_WORDS:
            chosen.append(region)
            words += length
    for region in sorted(chosen, key=lambda r: r.grid):
        clauses = region_clauses(region.attrs, spec.organ)
        sentences.append(f"{region_text(region.grid)}: {_join(clauses)}")
        units += [Unit(text, f"region.{name}", (region.grid,), region.patches) for name, text in clauses]
    return " ".join(sentences), units, caption_of(spec, measured.slide, wording)


def patch_phrases(spec: Spec, patches: dict[str, NDArray[np.generic]]) -> list[str]:
    """A phrase of four to ten words for each patch; empty for a patch without tissue."""
    phrases = []
    tissue, content = patches["tissue"], patches["content"]
    area, cv, til = patches["nuclear_area_um2"], patches["nuclear_area_cv"], patches["til_per_mm2"]
    keratin = np.asarray(patches["compartments"])[:, Compartment.KERATIN]
    for i in range(len(tissue)):
        if tissue[i] < 0.1 or content[i] < 0:
            phrases.append("")
            continue
        name = CONTENTS[int(content[i])]
        with_: list[str] = []
        if name == "tumour":
            if patches["pattern"][i]:
                name = f"{PATTERNS[int(patches['pattern'][i])]} tumour"
            index = 2 * float(np.sqrt(area[i] / np.pi)) * (1 + float(cv[i]))
            if np.isfinite(index):
                with_.append(f"{_DEGREES[sum(index > t for t in PLEOMORPHISM)]} nuclei")
        if patches["necrosis"][i] > 0.05:
            with_.append("necrosis")
        if keratin[i] > 0.03:
            with_.append("keratin")
        if patches["mucin"][i] > 0.05:
            with_.append("mucin")
        if np.isfinite(til[i]) and spec.organ != "lymph node" and len(with_) < 2:
            with_.append(f"{_AMOUNTS[sum(til[i] > t for t in TIL_PER_MM2)]} inflammatory cells")
        if not with_:
            phrases.append(f"{name} in {spec.organ} tissue")
            continue
        phrases.append(f"{name} with {' and '.join(with_)}")
    return phrases
