"""Open questions that wait at the same time: what one batch saves, about one slide and across slides.

- One slide: its cache stands once for every row, and rows differ in their words alone (what the server does).
- Across slides: caches are padded to the longest on the left and stacked first; what that costs is counted.
- Each way against one question after the other, in turns in the same process; and whether all say the same.

Run: ``python benchmarks/question_batches.py FEATURES.h5 [FEATURES.h5 ...] [--rows 4] [--repeats 5]``
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from transformers import DynamicCache

from hwsi.features import read_features
from hwsi.inference import Session, study
from hwsi.inference.streaming import Pieces, speak_together
from hwsi.model.scoring import PrefixCache

WORDS = 24
QUESTIONS = [
    "What is the diagnosis?",
    "What is the histologic grade of the tumour?",
    "Is there necrosis on this slide?",
    "Describe the growth pattern of the tumour.",
    "Which organ is this?",
    "Are lymphocytes seen in R1?",
    "What is the nuclear grade?",
    "What is seen in R2?",
]


def across(sessions: Sequence[Session], questions: Sequence[str]) -> list[list[int]]:
    """Greedy ids of each question about its own slide, all slides in one batch."""
    prefixes = [s._prefix for s in sessions]
    ids = [s._processor.question(q) for s, q in zip(sessions, questions, strict=True)]
    sizes, longest, most = [len(p) for p in prefixes], max(map(len, prefixes)), max(map(len, ids))
    past = stacked(prefixes, longest)
    rows = len(ids)
    mask = torch.zeros(rows, longest + most, dtype=torch.int64)
    words = torch.zeros(rows, most, dtype=torch.int64)
    positions = torch.zeros(rows, most, dtype=torch.int64)
    for n, (asked, size) in enumerate(zip(ids, sizes, strict=True)):
        mask[n, longest - size : longest] = 1
        mask[n, longest + most - len(asked) :] = 1
        words[n, most - len(asked) :] = torch.tensor(asked)
        positions[n, most - len(asked) :] = size + torch.arange(len(asked))
    model = sessions[0]._model
    end, made = model.generation_config.eos_token_id, [[] for _ in ids]
    with torch.inference_mode():
        for _ in range(WORDS):
            out = model(
                input_ids=words, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True,
                logits_to_keep=1,
            )  # fmt: skip
            tokens = out.logits[:, -1].float().argmax(-1)
            for row, token in zip(made, tokens.tolist(), strict=True):
                if not row or row[-1] != end:
                    row.append(token)
            if all(row[-1] == end for row in made):
                break
            words, positions = tokens[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(words)], 1)
    return made


def stacked(prefixes: Sequence[PrefixCache], longest: int) -> DynamicCache:
    """The caches of slides as rows of one."""
    past = DynamicCache()
    for layer in range(len(prefixes[0].past.layers)):
        rows = []
        for name in ("keys", "values"):
            parts = [getattr(p.past.layers[layer], name) for p in prefixes]
            rows.append(torch.cat([torch.nn.functional.pad(x, (0, 0, longest - x.shape[2], 0)) for x in parts]))
        past.update(*rows, layer)
    return past


def together(session: Session, questions: Sequence[str]) -> list[list[int]]:
    """The same about one slide."""
    pieces = [Pieces(session._processor, None) for _ in questions]
    ids = [session._processor.question(q) for q in questions]
    speak_together(session._model, session._prefix, ids, pieces, max_new_tokens=WORDS)
    return [p.ids for p in pieces]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="+")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    sessions = [study(read_features(path)) for path in args.features]
    assert all(isinstance(s, Session) for s in sessions)
    rows = (sessions * args.rows)[: args.rows]
    asked = QUESTIONS[: args.rows]

    def alone(whose: Sequence[Session]) -> list[list[int]]:
        return [together(s, [q])[0] for s, q in zip(whose, asked, strict=True)]

    ways: dict[str, tuple[Callable[[], list[list[int]]], Callable[[], list[list[int]]]]] = {
        "one slide": (lambda: alone([sessions[0]] * args.rows), lambda: together(sessions[0], asked)),
        "across slides": (lambda: alone(rows), lambda: across(rows, asked)),
    }
    for name, (one_by_one, batch) in ways.items():
        same = one_by_one() == batch()
        ratios = [seconds(one_by_one) / seconds(batch) for _ in range(args.repeats)]
        print(f"{name:14} {args.rows} rows: {statistics.median(ratios):.2f} times as fast, same words: {same}")


if __name__ == "__main__":
    main()
