"""Ask a slide, and see the tissue that the answer rests on.

    python examples/ask.py [SLIDE [QUESTION]]

Without a slide one is drawn: synthetic tissue, the only one that the embedded model knows.
"""

import sys
from pathlib import Path

import hwsi
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec


def main(slide: str = "drawn.svs", question: str = "What is the diagnosis?") -> None:
    """Encode the slide into ``job`` (once), ask, and print the answer with its evidence."""
    if not Path(slide).exists():
        write_phantom(slide, Spec(seed=3, diagnosis="invasive ductal carcinoma", width_um=1280, height_um=1280))
    session = hwsi.study(slide, out="job")
    answer = session.ask(question)
    print(answer.text)
    print(f"the slide adds {answer.visual_reliance:+.2f} nats a word piece; the evidence is {answer.support.verdict}")
    for e in answer.evidence[:6]:
        print(f"  {e.scale:<7}{e.label:<8}{e.score:+.2f} nats, level-0 pixels {e.box}")
    for warning in answer.warnings:
        print(f"note: {warning}")


if __name__ == "__main__":
    main(*sys.argv[1:])
