"""The words of the questions: kinds, choices, templates, and what no slide can tell.

- A kind's last template is held out from training; its words all occur in the other templates.
- Wordings are few and the vocabulary is small on purpose: a language model of a few million parameters, trained on
  a few hundred slides, has to learn all of it.
"""

from dataclasses import dataclass

from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.spec import DIAGNOSES
from hwsi.phantom.truth import QUADRANTS

REFUSAL = "This cannot be assessed on this slide."
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Kind:
    """A kind of question: its scale, choices and wordings (the last one is held out from training)."""

    scale: str
    choices: tuple[str, ...]
    templates: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "pleomorphism": Kind(
        "cell",
        ("mild", "moderate", "marked"),
        (
            "What is the nuclear pleomorphism?",
            "How strong is the nuclear pleomorphism of the tumour?",
            "What is the degree of nuclear pleomorphism?",
            "What is the nuclear pleomorphism of the tumour?",
        ),
    ),
    "nucleoli": Kind(
        "cell",
        YES_NO,
        (
            "Are prominent nucleoli present?",
            "Do the tumour nuclei show prominent nucleoli?",
            "Are there prominent nucleoli?",
            "Does the tumour show prominent nucleoli?",
        ),
    ),
    "inflammatory_cell": Kind(
        "cell",
        ("lymphocytes", "plasma cells"),
        (
            "Which inflammatory cell predominates?",
            "What is the predominant inflammatory cell?",
            "Which inflammatory cells are most frequent?",
            "Which inflammatory cell is most frequent?",
        ),
    ),
    "mitosis": Kind(
        "cell",
        ("low", "intermediate", "high"),
        (
            "What is the mitotic activity?",
            "How high is the mitotic activity of the tumour?",
            "What is the degree of mitotic activity?",
            "What is the mitotic activity of the tumour?",
        ),
    ),
    "necrosis": Kind(
        "patch",
        YES_NO,
        (
            "Is necrosis present?",
            "Does the tissue show necrosis?",
            "Is there necrosis on this slide?",
            "Is there necrosis in the tissue?",
        ),
    ),
    "pattern": Kind(
        "patch",
        ("glandular", "cribriform", "solid", "single file"),
        (
            "What is the growth pattern?",
            "Which growth pattern predominates?",
            "What is the predominant growth pattern of the tumour?",
            "What is the growth pattern of the tumour?",
        ),
    ),
    "keratin": Kind(
        "patch",
        YES_NO,
        (
            "Is keratinisation present?",
            "Does the tumour show keratinisation?",
            "Is there keratinisation on this slide?",
            "Is there keratinisation in the tumour?",
        ),
    ),
    "mucin": Kind(
        "patch",
        YES_NO,
        (
            "Are mucin pools present?",
            "Does the tissue show mucin pools?",
            "Are there mucin pools on this slide?",
            "Are there mucin pools in the tissue?",
        ),
    ),
    "germinal": Kind(
        "patch",
        YES_NO,
        (
            "Are germinal centres present?",
            "Does the tissue show germinal centres?",
            "Are there germinal centres on this slide?",
            "Are there germinal centres in the tissue?",
        ),
    ),
    "goblet_cells": Kind(
        "patch",
        ("few", "many"),
        (
            "Are there few or many goblet cells?",
            "How many goblet cells does the tissue show?",
            "What is the number of goblet cells?",
            "How many goblet cells are there?",
        ),
    ),
    "infiltrate": Kind(
        "patch",
        ("few", "moderate", "many"),
        (
            "How many inflammatory cells are in the stroma?",
            "How many inflammatory cells does the stroma show?",
            "What is the number of inflammatory cells in the stroma?",
            "How many inflammatory cells does the tissue show?",
        ),
    ),
    "tubules": Kind(
        "region",
        ("more than 75 %", "10 to 75 %", "less than 10 %"),
        (
            "How much of the tumour forms tubules?",
            "Which part of the tumour forms tubules?",
            "What is the degree of tubule formation?",
            "How much of the tumour shows tubule formation?",
        ),
    ),
    "where_necrosis": Kind(
        "region",
        QUADRANTS,
        (
            "Where is the necrosis?",
            "Where does most of the necrosis lie?",
            "Which part of the slide shows most necrosis?",
            "Where is most of the necrosis?",
        ),
    ),
    "where_infiltrate": Kind(
        "region",
        QUADRANTS,
        (
            "Where is the densest inflammatory infiltrate?",
            "Where do most inflammatory cells lie?",
            "Which part of the slide shows most inflammatory cells?",
            "Where are most inflammatory cells?",
        ),
    ),
    "where_tumour": Kind(
        "region",
        QUADRANTS,
        (
            "Where is the tumour?",
            "Where does most of the tumour lie?",
            "Which part of the slide shows most tumour?",
            "Where is most of the tumour?",
        ),
    ),
    "content": Kind(
        "region",
        CONTENTS,
        (
            "What does {region} mostly show?",
            "Which tissue predominates in {region}?",
            "What is the predominant tissue in {region}?",
            "Which tissue does {region} mostly show?",
        ),
    ),
    "vascular_invasion": Kind(
        "region",
        YES_NO,
        (
            "Is vascular invasion present?",
            "Is there vascular invasion?",
            "Does the tumour show vascular invasion?",
            "Is there vascular invasion on this slide?",
        ),
    ),
    "in_situ": Kind(
        "region",
        ("in situ", "invasive"),
        (
            "Is the carcinoma in situ or invasive?",
            "Does the carcinoma grow in situ or invasive?",
            "Is this carcinoma invasive or in situ?",
            "Is this carcinoma in situ or invasive?",
        ),
    ),
    "diagnosis": Kind(
        "slide",
        (),
        (
            "What is the diagnosis of this {organ} specimen?",
            "Which diagnosis fits this {organ} tissue?",
            "This is a {organ} specimen. What is the diagnosis?",
            "Which diagnosis fits this {organ} specimen?",
        ),
    ),
    "malignancy": Kind(
        "slide",
        ("benign", "malignant"),
        (
            "Is this {organ} tissue benign or malignant?",
            "Is this {organ} specimen malignant or benign?",
            "This is a {organ} specimen. Is it benign or malignant?",
            "Is this {organ} specimen benign or malignant?",
        ),
    ),
    "grade": Kind(
        "slide",
        ("grade 1", "grade 2", "grade 3"),
        (
            "What is the histologic grade?",
            "What is the grade of the tumour?",
            "Which grade does the tumour show?",
            "What is the histologic grade of the tumour?",
        ),
    ),
    "fragments": Kind(
        "slide",
        ("one", "two", "three"),
        (
            "How many tissue fragments are there?",
            "How many fragments does the slide show?",
            "What is the number of tissue fragments?",
            "How many tissue fragments does the slide show?",
        ),
    ),
    "focality": Kind(
        "slide",
        ("one focus", "several foci"),
        (
            "Does the tumour form one focus or several?",
            "Is there one focus of tumour or several?",
            "Is the tumour one focus or several?",
            "Does the tumour show one focus or several?",
        ),
    ),
    "extent": Kind(
        "slide",
        ("less than a third", "about half", "more than two thirds"),
        (
            "How much of the tissue is tumour?",
            "Which part of the tissue is tumour?",
            "What is the extent of the tumour?",
            "How much of this tissue is tumour?",
        ),
    ),
}

# whether a kind presumes a tumour: on a slide without one it is a false premise
OF_TUMOUR = ("pleomorphism", "mitosis", "grade", "extent", "where_tumour", "focality", "tubules")
NO_TUMOUR = "There is no tumour."
DESCRIBE = ("Describe {region}.", "What is seen in {region}?", "Describe the tissue in {region}.")

# what no haematoxylin and eosin slide can tell; wordings by reason
NEVER: dict[str, tuple[str, ...]] = {
    "This needs immunohistochemistry.": (
        "Is HER2 positive?",
        "What is the Ki-67 index?",
        "Is the oestrogen receptor positive?",
        "Is PD-L1 positive?",
        "What is the receptor status of the tumour?",
    ),
    "This needs a molecular test.": (
        "Is there a KRAS mutation?",
        "Is an EGFR mutation present?",
        "Which mutation does the tumour show?",
        "Is microsatellite instability present?",
    ),
    "This needs clinical data.": (
        "How old is the patient?",
        "What is the sex of the patient?",
        "How long will the patient survive?",
        "Which therapy was given before?",
        "Does the patient smoke?",
    ),
    "This tissue is not on the slide.": (
        "Are distant metastases present?",
        "What is the tumour stage?",
        "Is the other breast involved?",
        "Are other lymph nodes involved?",
        "Is the tumour in the liver?",
    ),
}
NEVER_REASONS = tuple(NEVER)


def all_texts() -> list[str]:
    """Every fixed wording, choice and reason: what the vocabulary of the questions is made of."""
    texts = [t for k in KINDS.values() for t in (*k.templates, *k.choices)]
    texts += [
        *DESCRIBE,
        REFUSAL,
        NO_TUMOUR,
        "There is no necrosis.",
        "This region is covered by an artefact.",
    ]
    texts += ["There is no such region.", *DIAGNOSES, *(d for ds in DIAGNOSES.values() for d in ds)]
    return texts + [t for reason, ts in NEVER.items() for t in (reason, *ts)]
