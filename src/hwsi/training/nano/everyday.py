"""What people type before they have read which questions there are: what is this, what do you see, is it cancer?

Artefacts are asked for here alone; in reports they are a word or two among a hundred, too few to be learned from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hwsi.phantom.measure import ARTEFACTS
from hwsi.phantom.report import NO_ARTEFACT, caption_of, draw_wording
from hwsi.phantom.spec import spec_of
from hwsi.training.nano.turns import Dialogue, turns

_ASKED = {
    "organ": (
        "What tissue is this?",
        "Which tissue is this?",
        "What organ is this?",
        "Which organ does this tissue come from?",
    ),
    "caption": (
        "What do you see?",
        "What does this slide show?",
        "What is on this slide?",
        "Describe this slide.",
        "Summarise this slide.",
    ),
    "malignant": (
        "Is there cancer?",
        "Is this cancer?",
        "Is there a malignant tumour?",
        "Is this tissue malignant?",
    ),
    "diagnosis": (
        "What is this?",
        "What is wrong here?",
        "What does the patient have?",
    ),
    "artefacts": (
        "Are there artefacts?",
        "Which artefacts are there?",
        "What covers the tissue?",
    ),
    "artefact": (
        "Is there {v} on this slide?",
        "Does {v} cover tissue?",
    ),
}


def everyday_texts() -> list[str]:
    """All words of these questions, for the vocabulary."""
    return [text for texts in _ASKED.values() for text in texts] + list(ARTEFACTS)


OF_ARTEFACTS = ("artefacts", "artefact")


def everyday(truth: dict[str, Any], rng: np.random.Generator, kinds: Sequence[str] = (*_ASKED,)) -> Dialogue:
    """One such question about a slide, places in the answer still as ``{R:row,col}``."""
    kind = str(rng.choice(kinds))
    one = str(rng.choice(ARTEFACTS))
    covers = truth["slide"]["artefacts"]
    answers = {
        "organ": f"{truth['organ'].capitalize()} tissue.",
        "caption": caption_of(spec_of(truth), truth["slide"], draw_wording(rng)),
        "malignant": "yes" if truth["malignant"] else "no",
        "diagnosis": truth["diagnosis"],
        "artefacts": f"{' and '.join(covers)}." if covers else NO_ARTEFACT[0],
        "artefact": "yes" if one in covers else "no",
    }
    return turns(str(rng.choice(_ASKED[kind])).format(v=one), answers[kind])
