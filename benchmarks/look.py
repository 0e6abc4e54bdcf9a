"""What a look at a part of a slide saves and costs: ``python benchmarks/look.py [--slides 12] [--share 0.25]``.

Phantom slides of the split ``test`` are drawn with their pixels. Each closed question that names no region is answered
twice from them: with the whole slide, and with ``look``, which encodes a share of the regions and more only where the
model is not sure. Seconds are those of encoding; regions that an earlier question had read are not read again.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from hwsi.inference import study
from hwsi.inference.look import look
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.sampling import draw_plans
from hwsi.phantom.truth import cited, load_truth


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--slides", type=int, default=12)
    ask.add_argument("--share", type=float, default=0.25)
    ask.add_argument("--questions", type=int, default=3, help="of each slide")
    ask.add_argument("--seed", type=int, default=0)
    wish = ask.parse_args()
    right: dict[str, list[float]] = {"whole": [], "look": []}
    seconds = dict.fromkeys(right, 0.0)
    looked = []
    rng = np.random.default_rng(wish.seed)
    with tempfile.TemporaryDirectory() as folder:
        for plan in draw_plans(wish.slides, wish.seed, "test"):
            path = Path(folder) / f"{plan.slide_id}.svs"
            write_phantom(path, plan.spec)
            truth = load_truth(path)
            asked = [q for q in truth["questions"] if q["closed_eval"] and not cited(q["question"])]
            began = time.perf_counter()
            with study(path) as whole:
                seconds["whole"] += time.perf_counter() - began
                for i in rng.permutation(len(asked))[: wish.questions]:
                    words, choices, answer = asked[i]["question"], list(asked[i]["choices"]), asked[i]["answer"]
                    right["whole"].append(whole.ask(words, choices, evidence=False).text == answer)
                    began = time.perf_counter()
                    with look(path, words, choices, share=wish.share, out=Path(folder) / plan.slide_id) as part:
                        seconds["look"] += time.perf_counter() - began
                        right["look"].append(part.ask(words, choices, evidence=False).text == answer)
                        looked.append(part.looked_at)
            path.unlink()
    n = len(looked)
    print(f"{n} questions about {wish.slides} slides, first look at {100 * wish.share:.0f} % of the regions")
    for name, values in right.items():
        print(f"{name:6s} right {np.mean(values):.3f}   {seconds[name]:.1f} s of encoding")
    print(
        f"tissue looked at: mean {np.mean(looked):.2f}; {np.mean(np.array(looked) < 1):.2f} of the answers with a part"
    )


if __name__ == "__main__":
    main()
