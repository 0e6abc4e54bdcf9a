"""What the ablation compares: which scales stand in the prompt, how they are aligned with words and who sees whom.

- One thing differs between two variants; budget, slides, fixed encoders, questions and seeds are the same.
- A scale that is switched off is not in the prompt: no token, no label of its own, no computation.
"""

from dataclasses import dataclass
from typing import Literal

from hwsi.training.objectives.contrast import Pairing

SCALES = ("slide", "region", "patch", "cell")


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        name: of its result files. title: of its row.
        scales: those whose tokens the language model reads.
        contrast, consistency: whether these parts of L_HCA are trained. pairing: of the contrastive part.
        mixing: which visual tokens see each other in the language model (docs/decisions/0003).
    """

    name: str
    title: str
    scales: tuple[str, ...] = SCALES
    contrast: bool = True
    consistency: bool = True
    pairing: Pairing = "maxsim"
    mixing: Literal["none", "hier", "full"] = "hier"


VARIANTS: dict[str, Variant] = {
    v.name: v
    for v in (
        Variant("slide", "slide vector only", ("slide",)),
        Variant("region-slide", "region + slide", ("slide", "region")),
        Variant("no-cell", "patch + region + slide", ("slide", "region", "patch")),
        Variant("no-region", "cell + patch + slide", ("slide", "patch", "cell")),
        Variant("all", "all four, maxsim"),
        Variant("no-contrast", "all four, no contrastive part", contrast=False),
        Variant("no-consistency", "all four, no consistency", consistency=False),
        Variant("pooled", "all four, pooled text as in the release", pairing="pooled"),
        Variant("mixing-none", "all four, tokens see no other token", mixing="none"),
        Variant("mixing-full", "all four, tokens see all before them", mixing="full"),
    )
}
"""Name -> variant. Late interaction (maxsim) is what all are trained with unless their row says otherwise."""
