"""What the language model of nano is shown and told: turned slides, hidden tokens, dialogues, the loss."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hwsi.benchmarks.facts import parse
from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import region_label
from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions
from hwsi.inference.tasks import REPORT_PROMPT
from hwsi.model.attention import SLIDE_NODE
from hwsi.model.nano import build_nano
from hwsi.model.processor import HwsiProcessor
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.phantom.report import NO_ARTEFACT
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import QUADRANTS
from hwsi.phantom.wordings import REFUSAL
from hwsi.training.nano.attributes import BOTH, SLIDE
from hwsi.training.nano.dialogues import Teacher
from hwsi.training.nano.instruct import stops_before
from hwsi.training.nano.language import answer_loss, hidden
from hwsi.training.nano.symmetry import turn_features, turn_quarter
from hwsi.training.nano.token_truth import TokenReader

SIDE, REGION0, PATCH0 = 4, 512, 128
WIDTH0, HEIGHT0 = 1000, 1500


def slide(seed: int = 0) -> SlideFeatures:
    """2 x 3 regions, the one at (1, 0) without tissue; three cells in every patch."""
    rng = np.random.default_rng(seed)
    grid = np.array([(r, c) for r in range(3) for c in range(2) if (r, c) != (1, 0)], np.int64)
    n = len(grid)
    xy = grid[:, ::-1] * REGION0
    one, none = np.ones(n, np.float32), np.zeros(n, np.float32)
    regions = Regions(xy=xy, size0=REGION0, grid=grid, tissue=one, focus=one, pen=none, padded=none > 0)
    parent = np.repeat(np.arange(n), SIDE**2)
    row_col = np.tile(np.stack(np.divmod(np.arange(SIDE**2), SIDE), 1), (n, 1)).astype(np.int64)
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    background = (patch_xy >= (WIDTH0, HEIGHT0)).any(1)
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col,
        tissue=(~background).astype(np.float32), background=background,
    )  # fmt: skip
    owner = np.repeat(np.flatnonzero(~background), 3)
    m = len(owner)
    cells = Cells(
        xy=(patch_xy[owner] + rng.uniform(1, PATCH0 - 1, (m, 2))).astype(np.float32), patch=owner,
        contour_ptr=np.arange(m + 1) * 3, contour_xy=rng.uniform(0, 9, (3 * m, 2)).astype(np.float32),
        type=rng.integers(0, 5, m), type_prob=np.ones(m, np.float32),
    )  # fmt: skip
    tree = Hierarchy(WIDTH0, HEIGHT0, 0.5, REGION0, PATCH0, 0.5, regions, patches, cells)

    def draw(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.standard_normal(shape).astype(np.float32)

    return SlideFeatures(
        slide_id="0" * 32, slide_name="made", hierarchy=tree, mpp_source="user", preset="nano",
        patch={"patch-nano": draw(len(parent), 192)}, cell={"cell-nano": draw(m, 64)},
        region={"region-nano": draw(n, 192)}, slide={"slide-nano": draw(192)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def processor() -> HwsiProcessor:
    return build_nano(train_nano_tokenizer(["R1: Mostly tumour.", "yes no", REPORT_PROMPT]))[1]


# --- turned slides --------------------------------------------------------------------------------


def test_an_unturned_slide_reads_the_same(processor: HwsiProcessor) -> None:
    f = slide()
    turned, order = turn_features(f, 0)
    assert order.tolist() == list(range(5))
    a, b = processor.prefix(f).row, processor.prefix(turned).row
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("code", range(8))
def test_a_turned_slide_holds_the_same_tissue_at_moved_places(code: int) -> None:
    f = slide()
    turned, order = turn_features(f, code)
    old, new = f.hierarchy, turned.hierarchy
    size = np.array([WIDTH0, HEIGHT0])

    def moved(centre: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x = np.where([code & 1, code & 2], size - centre, centre)
        return x[:, ::-1] if code & 4 else x

    assert (new.width0, new.height0) == ((HEIGHT0, WIDTH0) if code & 4 else (WIDTH0, HEIGHT0))
    # regions: features go with their tissue, in reading order, and know where the truth has them
    assert np.array_equal(turned.region["region-nano"], f.region["region-nano"][order])
    assert np.array_equal(new.regions.grid, old.regions.grid[order])
    assert np.array_equal(new.regions.xy + REGION0 / 2, moved(old.regions.xy[order] + REGION0 / 2))
    assert np.array_equal(np.lexsort((new.regions.xy[:, 0], new.regions.xy[:, 1])), np.arange(5))
    # patches: each is found by its vector
    row_of = {v.tobytes(): n for n, v in enumerate(f.patch["patch-nano"])}
    at = np.array([row_of[v.tobytes()] for v in turned.patch["patch-nano"]])
    assert np.array_equal(new.patches.xy + PATCH0 / 2, moved(old.patches.xy[at] + PATCH0 / 2))
    assert np.array_equal(new.patches.background, old.patches.background[at])
    assert np.array_equal(order[new.patches.region], old.patches.region[at])
    expected = new.regions.xy[new.patches.region] + new.patches.row_col[:, ::-1] * PATCH0
    assert np.array_equal(new.patches.xy, expected)
    assert np.array_equal(new.patches.region * SIDE**2 + new.patches.row_col @ [SIDE, 1], np.arange(len(at)))
    # cells lie inside their patches, in the order of these
    inside = new.cells.xy - new.patches.xy[new.cells.patch]
    assert ((inside >= 0) & (inside <= PATCH0)).all()
    assert (np.diff(new.cells.patch) >= 0).all()
    row_of = {v.tobytes(): n for n, v in enumerate(f.cell["cell-nano"])}
    cells = np.array([row_of[v.tobytes()] for v in turned.cell["cell-nano"]])
    assert np.array_equal(at[new.cells.patch], old.cells.patch[cells])


@pytest.mark.parametrize("code", range(8))
def test_a_quarter_changes_its_name_as_a_point_in_it_moves(code: int) -> None:
    for name in QUADRANTS:
        x, y = ("right" in name) * 2 - 1, ("lower" in name) * 2 - 1
        x, y = -x if code & 1 else x, -y if code & 2 else y
        x, y = (y, x) if code & 4 else (x, y)
        assert turn_quarter(name, code) == f"{'lower' if y > 0 else 'upper'} {'right' if x > 0 else 'left'}"


def test_the_top_of_a_tree_is_slide_and_regions(processor: HwsiProcessor) -> None:
    top = processor.prefix(slide(), kept_patches=0)
    assert [n.scale for n in top.layout.nodes] == ["text", "slide", *["region"] * 5]
    assert len(processor.prefix(slide())) > len(top)


# --- dialogues ------------------------------------------------------------------------------------


def question(kind: str, answer: str, text: str, *, choices: tuple[str, ...] = (), regions: Any = ()) -> dict[str, Any]:
    return {
        "id": f"s/{kind}/0", "kind": kind, "question": text, "choices": list(choices), "answer": answer,
        "regions": [list(r) for r in regions],
    }  # fmt: skip


UNCLEAR = dict.fromkeys(
    (
        "fragments", "pattern", "grade", "tubule_score", "pleomorphism_score", "mitosis_score", "nucleoli", "mucin",
        "goblet_cells", "vascular_invasion", "til", "focality", "extent",
    )
)  # fmt: skip
SAID = {
    ("", "organ", "colon"), ("", "diagnosis", "colonic adenocarcinoma"), ("", "necrosis", "absent"),
    ("", "artefacts", "pen"), ("", "artefacts", "blur"),
}  # fmt: skip


def truth() -> dict[str, Any]:
    covered = {(0, 1): 0.9}
    sentences = {
        (0, 0): "Mostly tumour with 10 to 75 % of it.", (0, 1): "Mostly stroma.", (1, 0): "Mostly muscle.",
        (1, 1): "Mostly fat.", (2, 1): "Benign glands and fat.",
    }  # fmt: skip
    return {
        "organ": "colon",
        "diagnosis": "colonic adenocarcinoma",
        "malignant": True,
        "spec": Spec(0, "colonic adenocarcinoma", artefacts=("pen", "blur")).to_dict(),
        "slide": {**UNCLEAR, "neoplastic": True, "necrosis": False, "artefacts": ["pen", "blur"]},
        "regions": [
            {
                "grid": [r, c], "attrs": {"covered_fraction": covered.get((r, c), 0.0)},
                "sentence": sentences.get((r, c), ""),
            }
            for r in range(3) for c in range(2)
        ],
        "questions": [
            question("describe", "Mostly tumour.", "Describe {R:0,0}.", regions=[(0, 0)]),
            question("describe", "Mostly stroma.", "Describe {R:0,1}.", regions=[(0, 1)]),
            question("describe", "Mostly muscle.", "Describe {R:1,0}.", regions=[(1, 0)]),
            question("content", "tumour", "?", choices=("tumour", "stroma"), regions=[(0, 0)])
            | {"question": "What does {R:0,0} mostly show?"},
            question("content", f"{REFUSAL} This region is covered by an artefact.", "What does {R:0,1} mostly show?",
                     choices=("tumour", "stroma"), regions=[(0, 1)]),
            question("where_tumour", "upper right", "Where is the tumour?", choices=QUADRANTS),
        ],
    }  # fmt: skip


def told(teacher: Teacher, n: int = 20) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for seed in range(300):
        for asked, said in teacher.draw(np.random.default_rng(seed), n):
            found.setdefault(asked["content"].split("\n")[0], set()).add(said["content"])
    return found


def test_nothing_is_told_of_a_region_that_cannot_be_seen() -> None:
    teacher = Teacher(truth(), slide().hierarchy, Counter())
    said = told(teacher)
    # the region without tissue and the covered one are in no report; the others under their labels
    regions = "R1: mostly tumour with 10 to 75 % of it. R3: mostly fat. R5: benign glands and fat."
    assert all(text.endswith(f" {regions}") for text in said[REPORT_PROMPT])
    assert all(parse(text.removesuffix(regions)) == SAID for text in said[REPORT_PROMPT])
    assert len(said[REPORT_PROMPT]) > 40, "no slide can be told by the words that its report is written with"
    assert "Describe R1." in said
    assert "Describe R2." not in said, "it is covered: to be refused, not to be described"
    assert all("without tissue" not in text for text in (*said, *(a for answers in said.values() for a in answers)))
    refused = [q for q, answers in said.items() if any(a.startswith(REFUSAL) for a in answers)]
    assert refused
    assert all("R2" in q for q in refused)


def test_everyday_questions_are_answered_too() -> None:
    said = told(Teacher(truth(), slide().hierarchy, Counter()))
    assert said["What tissue is this?"] == {"Colon tissue."}
    captions = {
        "Colon tissue with colonic adenocarcinoma.",
        "A colon specimen that shows colonic adenocarcinoma.",
        "Colonic adenocarcinoma in colon tissue.",
    }
    assert said["What do you see?"] <= captions
    assert len(said["What do you see?"]) > 1
    assert said["Is there cancer?"] == {"yes"}
    assert said["What is this?"] == {"colonic adenocarcinoma"}
    assert said["Are there artefacts?"] == {"pen and blur."}
    assert said["Is there blur on this slide?"] == {"yes"}
    assert said["Is there fold on this slide?"] == {"no"}
    clean = truth()
    clean["slide"]["artefacts"] = []
    assert told(Teacher(clean, slide().hierarchy, Counter()))["What covers the tissue?"] == {NO_ARTEFACT[0]}


def test_a_drill_asks_for_places_and_artefacts_every_time() -> None:
    teacher = Teacher(truth(), slide().hierarchy, Counter())
    artefacts = {"pen and blur.", "yes", "no"}
    for seed in range(20):
        said = [a["content"] for _, a in teacher.drill(np.random.default_rng(seed), alone=False)]
        assert said[:3] == ["upper right"] * 3  # once among the five, then twice
        assert len(said) == 6
        assert set(said[3:]) <= artefacts
        *_, report = teacher.drill(np.random.default_rng(seed), alone=True)
        assert parse(report[1]["content"]) == SAID, "of the slide alone"


@pytest.mark.parametrize("code", range(8))
def test_a_turned_slide_is_told_by_its_new_labels_and_quarters(code: int) -> None:
    f = slide()
    turned, order = turn_features(f, code)
    said = told(Teacher(truth(), turned.hierarchy, Counter(), code))
    label = region_label(order.tolist().index(0))
    assert said[f"Describe {label}."] == {"Mostly tumour."}
    assert f"{label}: mostly tumour" in next(iter(said[REPORT_PROMPT]))
    assert said["Where is the tumour?"] == {turn_quarter("upper right", code)}


def test_a_rare_answer_is_drawn_more_often_and_kinds_alike() -> None:
    record = truth()
    record["questions"] = [
        question("necrosis", "yes", "Is necrosis present?", choices=("yes", "no")),
        question("mucin", "no", "Are mucin pools present?", choices=("yes", "no")),
    ]
    # a kind that is asked of every slide, and one that is asked of few
    counts = Counter({("colon", "necrosis", a): 300 for a in ("yes", "no")})
    counts |= Counter({("colon", "mucin", a): 30 for a in ("yes", "no")})

    def share() -> float:
        teacher = Teacher(record, slide().hierarchy, counts)
        first = [teacher.draw(np.random.default_rng(s), 1)[0][0]["content"] for s in range(400)]
        return sum("ecrosis" in text for text in first) / len(first)

    assert 0.4 < share() < 0.6
    counts["colon", "necrosis", "yes"] = 100  # of 400: twice as rare as the mean of its kind
    assert 0.58 < share() < 0.75
    counts["colon", "necrosis", "yes"] = 1  # a handful of slides is not asked the same at every visit
    assert 0.9 < share() <= 1


def test_what_tokens_must_tell_reaches_the_projectors(processor: HwsiProcessor) -> None:
    model, ours = build_nano(train_nano_tokenizer(["R1: Mostly tumour.", "yes no", REPORT_PROMPT]))
    reader = TokenReader(model)
    rows = [
        processor.encode(
            processor.prefix(slide(s)),
            [[{"role": "user", "content": "yes"}]],
        )
        for s in (0, 1)
    ]
    batch = dict(ours.pad(rows))
    batch.pop("labels", None)
    model.model(**batch, use_cache=False)
    regions = [{name: torch.full((5,), -1) for name in BOTH} for _ in rows]
    slides = [{name: torch.tensor([-1]) for name in SLIDE} for _ in rows]
    slides[1]["inflammatory"] = torch.tensor([1])
    reader.loss(slides, regions).backward()
    weight = model.model.visual.projectors["slide"].out.weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="tokens"):
        reader.loss(slides[:1], regions)


# --- what is hidden, and what is learned ----------------------------------------------------------


def test_hiding_keeps_words_and_hides_whole_branches(processor: HwsiProcessor) -> None:
    prefix = processor.prefix(slide())
    node, parent = prefix.row["token_node"], prefix.row["node_parent"].tolist()
    seen = [hidden(prefix, np.random.default_rng(s)) for s in range(300)]
    assert all(stay[node == 0].all() for stay in seen)
    scales = [prefix.layout.nodes[n].scale for n in node.tolist()]

    def share(*kept: str) -> float:
        want = torch.tensor([scale in ("text", *kept) for scale in scales])
        return sum(torch.equal(stay, want) for stay in seen) / len(seen)

    assert 0.3 < share("slide", "region", "patch", "cell") < 0.5
    assert 0.01 < share() < 0.09
    assert 0.10 < share("slide") < 0.24
    assert 0.05 < share("region", "patch", "cell") < 0.17, "the slide's own token alone is hidden"
    assert 0.02 < share("patch", "cell") < 0.12, "what stands above says the same, and louder"
    assert 0.01 < share("cell") < 0.09
    for stay in seen:
        kept = set(node[stay].tolist())
        if "region" in {prefix.layout.nodes[n].scale for n in kept}:
            # whoever stays has its ancestors, but the slide's summary
            assert all(parent[n] in kept | {SLIDE_NODE} for n in kept)


def test_of_the_top_of_a_tree_something_is_seen_more_often(processor: HwsiProcessor) -> None:
    prefix = processor.prefix(slide(), kept_patches=0)
    text = prefix.row["token_node"] == 0
    nothing = [torch.equal(hidden(prefix, np.random.default_rng(s)), text) for s in range(300)]
    assert 0.05 < np.mean(nothing) < 0.25


def test_an_answer_weighs_by_the_root_of_its_length(processor: HwsiProcessor) -> None:
    model, _ = build_nano(processor.tokenizer)
    long = "R1: Mostly tumour. R1: Mostly tumour. R1: Mostly tumour."
    dialogues = [
        [{"role": "user", "content": "a?"}, {"role": "assistant", "content": text}] for text in ("yes", long, "no")
    ]
    rows = [processor.encode(slide(), dialogues), processor.encode(None, dialogues[:1])]
    batch = dict(processor.pad(rows))
    with torch.no_grad():
        loss, right = answer_loss(model, dict(batch))
        labels = batch.pop("labels")
        logits = model(**batch).logits[:, :-1]
    each = F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
    total, weight = 0.0, 0.0
    for row in range(2):
        for segment in range(1, 4):
            mine = (batch["segment_ids"][row, 1:] == segment) & (labels[row, 1:] >= 0)
            if mine.any():
                root = float(mine.sum()) ** 0.5
                total, weight = total + root * float(each[row][mine].mean()), weight + root
    assert float(loss) == pytest.approx(total / weight, rel=1e-5)
    assert 0 <= right <= 1


def test_a_question_is_learned_as_it_will_be_asked(processor: HwsiProcessor) -> None:
    """In a row with others, and with tokens hidden, its answer has the loss that it has alone."""
    model, _ = build_nano(processor.tokenizer)
    asked = [[{"role": "user", "content": f"R{i}?"}, {"role": "assistant", "content": "yes no"}] for i in (1, 2, 3)]
    prefix = processor.prefix(slide())
    stay = hidden(prefix, np.random.default_rng(4))

    def loss(dialogues: list[Any]) -> float:
        batch = dict(processor.pad([processor.encode(prefix, dialogues)]))
        batch["attention_mask"][0, : len(stay)] = stay.long()
        with torch.no_grad():
            return float(answer_loss(model, batch)[0])

    assert loss(asked) == pytest.approx(np.mean([loss([d]) for d in asked]), rel=1e-4)


def test_a_sentence_of_an_answer_ends_with_its_full_stop() -> None:
    none, stop, end = -100, 7, 1
    labels = torch.tensor([[3, stop, 4, 5, stop, end, 6, end], [3, end, none, none, 4, stop, 5, end]])
    assert stops_before(labels, stop=stop, end=end).tolist() == [[0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]]
