"""What people type before they have read which questions there are: what is this, what do you see, is it cancer?"""

from typing import Any

import numpy as np

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
}


def everyday_texts() -> list[str]:
    """All words of these questions, for the vocabulary."""
    return [text for texts in _ASKED.values() for text in texts]


def everyday(truth: dict[str, Any], rng: np.random.Generator) -> Dialogue:
    """One such question about a slide, places in the answer still as ``{R:row,col}``."""
    kind = str(rng.choice(list(_ASKED)))
    answers = {
        "organ": f"{truth['organ'].capitalize()} tissue.",
        "caption": truth["caption"],
        "malignant": "yes" if truth["malignant"] else "no",
        "diagnosis": truth["diagnosis"],
    }
    return turns(str(rng.choice(_ASKED[kind])), answers[kind])
