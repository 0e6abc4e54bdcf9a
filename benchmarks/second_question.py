"""What a second question costs beside the first: seconds to the first word, and their ratio.

- First question: the language model reads the slide's part of the prompt, then the question, then says a word.
  Second question: the slide is remembered; only the question is read. Encoding the slide is in neither.
- Both with the same words, median over repeats, one after the other in the same process.

Run: ``python benchmarks/second_question.py [SLIDE] [--features FILE.h5] [--repeats 5] [--at-most 0.15]``;
without a slide, on a synthetic one that is made on the spot. Exit status 1 if the ratio is above ``--at-most``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hwsi.inference import Session, study

QUESTION = "What is the histologic grade of the tumour?"


def seconds_to_first_word(ask: Callable[[Callable[[str], None]], object]) -> float:
    """Run ``ask(stream)`` and tell when its first piece came; of an answer without words, when it ended."""
    first: list[float] = []
    start = time.perf_counter()
    ask(lambda piece: first.append(time.perf_counter()))
    return (first[0] if first else time.perf_counter()) - start


def measure(session: Session, repeats: int) -> tuple[float, float]:
    """Median seconds to the first word of a first and of a second question."""

    def first(stream: Callable[[str], None]) -> None:
        study(session.features).ask(QUESTION, evidence=False, stream=stream, max_new_tokens=2)

    def second(stream: Callable[[str], None]) -> None:
        session.ask(QUESTION, evidence=False, stream=stream, max_new_tokens=2)

    seconds_to_first_word(first)  # allocators and threads warm up
    pairs = [(seconds_to_first_word(first), seconds_to_first_word(second)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--at-most", type=float, default=0.15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slide = args.slide or made_slide(Path(folder))
        with study(slide, features=args.features) as session:
            first, second = measure(session, args.repeats)
            regions, patches = len(session.features.hierarchy.regions), len(session.kept_patches)
    print(f"in the prompt    {regions} regions, {patches} patches")
    print(f"first question   {first * 1000:.1f} ms to the first word")
    print(f"second question  {second * 1000:.1f} ms to the first word")
    print(f"ratio            {second / first:.3f} (at most {args.at_most:g})")
    return int(second / first > args.at_most)


def made_slide(folder: Path) -> Path:
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.sampling import draw_plans

    path = folder / "second-question.svs"
    write_phantom(path, draw_plans(1, 0, "test")[0].spec)
    return path


if __name__ == "__main__":
    sys.exit(main())
