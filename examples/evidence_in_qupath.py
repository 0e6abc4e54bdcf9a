"""An answer's evidence and the slide's cells as GeoJSON: drop either file on the slide in QuPath.

    python examples/evidence_in_qupath.py [SLIDE [QUESTION]]

Coordinates are the slide's own pixels, so nothing has to be aligned. Each piece of evidence carries its worth in nats
as a measurement, each cell its type: QuPath's *Measure > Show detection measurements* lists them.
"""

import sys
from pathlib import Path

import hwsi
from hwsi.features import write_evidence, write_geojson
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec


def main(slide: str = "drawn.svs", question: str = "Is necrosis present?") -> None:
    """Write ``evidence.geojson`` and ``cells.geojson``."""
    if not Path(slide).exists():
        write_phantom(slide, Spec(seed=3, diagnosis="invasive ductal carcinoma", width_um=1280, height_um=1280))
    session = hwsi.study(slide, out="job")
    answer = session.ask(question, choices=["yes", "no"])
    pieces = write_evidence("evidence.geojson", answer, session.features.tissue)
    cells = write_geojson("cells.geojson", session.features, layers=["cells"])
    print(f"{question} {answer.text} ({answer.confidence:.0%})")
    print(f"evidence.geojson: {pieces} objects; cells.geojson: {cells} objects")


if __name__ == "__main__":
    main(*sys.argv[1:])
