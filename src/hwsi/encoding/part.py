"""Some regions of a slide, into its journal: what a look at a part of it needs, and where the whole goes on later."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwsi.encoding.encode import key_of
from hwsi.encoding.journal import Journal
from hwsi.encoding.progress import Progress, silent
from hwsi.encoding.regions import encode_regions
from hwsi.encoding.stack import Stack
from hwsi.encoding.timing import Timings
from hwsi.encoding.tuning import tune
from hwsi.hierarchy.tree import Hierarchy
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.slide import Slide


def encode_part(
    slide: "Slide", out: str | Path, tree: Hierarchy, regions: Sequence[int], *, preset: Preset, stack: Stack,
    mask: str | Path | None = None, progress: Progress | None = None,
) -> None:  # fmt: skip
    """Encode ``regions`` of the slide's tree that the journal of the job ``out`` does not have.

    :func:`hwsi.inference.seen.read_seen` reads what is there; ``encode_to_file`` goes on from it.

    Errors: as of ``encode_to_file``.
    """
    key = key_of(slide, preset, stack, mask)
    with Journal(Path(out) / "partial" / slide.name, key) as journal:
        tune(stack, preset, Path(out))
        encode_regions(slide, tree, preset, stack, journal, progress or silent, Timings(), only=frozenset(regions))
