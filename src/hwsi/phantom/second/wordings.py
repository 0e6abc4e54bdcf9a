"""The words of the questions that no single scale decides; the last wording of a kind is kept from training."""

from dataclasses import dataclass

from hwsi.phantom.wordings import KINDS, YES_NO, Kind


@dataclass(frozen=True)
class Composite:
    """A kind that needs more than one scale.

    Attributes:
        words: its choices and wordings. scales: those that decide it together.
        oracles: names of what one scale alone knows of it (entries of a question's ``known``).
    """

    words: Kind
    scales: tuple[str, ...]
    oracles: tuple[str, ...]


COMPOSITES: dict[str, Composite] = {
    "discordance": Composite(
        Kind(
            "region+cell",
            YES_NO,
            (
                "Is the tubule score equal to the nuclear score?",
                "Are the tubule score and the nuclear score equal?",
                "Does the tubule score equal the nuclear score?",
                "Is the nuclear score equal to the tubule score?",
            ),
        ),
        ("region", "cell"),
        ("tubules", "pleomorphism", "organ"),
    ),
    "necrosis_in_densest": Composite(
        Kind(
            "region+patch",
            YES_NO,
            (
                "Is there necrosis in the region with most inflammatory cells?",
                "Does the region with most inflammatory cells show necrosis?",
                "Is necrosis present in the region with most inflammatory cells?",
                "Is necrosis in the region with most inflammatory cells present?",
            ),
        ),
        ("region", "patch"),
        ("densest", "necrotic", "organ"),
    ),
    "mitoses_part": Composite(
        Kind(
            "patch+cell",
            ("solid part", "tubular part"),
            (
                "Do the mitoses lie in the solid or in the tubular part of the tumour?",
                "In which part of the tumour do most mitoses lie?",
                "Which part of the tumour shows most mitoses?",
                "In which part of the tumour are most mitoses?",
            ),
        ),
        ("patch", "cell"),
        ("solid_share", "mitosis_score", "organ"),
    ),
    "grade_of_two": Composite(
        KINDS["grade"],
        ("region", "cell"),
        ("two_scores",),
    ),
}
"""Kind -> what decides it. A question's ``scale`` names the scales with a plus between them."""


def all_texts() -> list[str]:
    """Every fixed wording and choice, for a vocabulary."""
    return [t for c in COMPOSITES.values() for t in (*c.words.templates, *c.words.choices)]
