"""Stage 1 end to end on made-up slides: it learns, goes on as if unbroken, and starts from what it was given."""

import json
import shutil
from pathlib import Path

import align_world as world
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from hwsi import encoders
from hwsi.encoders.weights import save
from hwsi.errors import HwsiError, Reason
from hwsi.features import read_features
from hwsi.model import load
from hwsi.training.stages.align import backward, make_ready, run_align
from hwsi.training.stages.align_config import AlignConfig, Contrast, Tower
from hwsi.training.stages.align_data import report_id, tissue_rows
from hwsi.training.stages.align_encoders import load_heads
from hwsi.training.stages.align_model import embed_texts
from hwsi.training.stages.config import Optimiser, Watch


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(model, job, reports)."""
    folder = tmp_path_factory.mktemp("align")
    return world.write_model(folder / "model"), *world.write_world(folder)


@pytest.mark.slow
def test_it_learns_and_gives_what_the_registry_loads(place: tuple[Path, Path, Path], tmp_path: Path) -> None:
    record = run_align(world.config(*place, steps=40), tmp_path)
    log = world.log_of(tmp_path)
    assert [line["step"] for line in log] == list(range(1, 41))
    parts = {f"contrast_{s}" for s in ("cell", "patch", "region", "slide")} | {f"rank_{s}" for s in ("cell", "slide")}
    assert parts | {"consistency_cell_patch", "consistency_slide_region", "loss", "lr", "norm"} <= log[0].keys()
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    # six reports: chance is one in six
    assert record.metrics["train_slide_to_text"] > 0.6
    assert record.metrics["train_text_to_slide"] > 0.6
    assert (record.stage, record.steps, record.given.stage) == ("align", 40, "external")
    ready = make_ready(world.config(*place))
    for name, encoder_id in (("region", "region-nano"), ("slide", "slide-nano"), ("text", "text-nano")):
        built = encoders.get(encoder_id).build(weights=tmp_path / "encoders" / f"{name}.safetensors")
        moved = getattr(ready.align, name).state_dict()
        assert any(not torch.allclose(v, moved[k], atol=1e-3) for k, v in built.state_dict().items())
    heads = load_heads(tmp_path / "encoders" / "heads.safetensors")
    assert heads("cell", torch.zeros(1, 96)).shape == (1, 32)
    trained, _ = load(tmp_path / "model")
    before, _ = load(place[0])
    now, then = trained.state_dict(), before.state_dict()
    changed = {k for k in now if not torch.equal(now[k], then[k])}
    assert changed
    assert all(".ccaf." in k for k in changed), "only CCAF of the model learns in this stage"
    # after the end the same call does nothing
    written = (tmp_path / "stage.json").stat().st_mtime_ns
    assert run_align(world.config(*place, steps=40), tmp_path) == record
    assert (tmp_path / "stage.json").stat().st_mtime_ns == written
    with pytest.raises(HwsiError) as e:
        run_align(world.config(*place, steps=41), tmp_path)
    assert e.value.reason is Reason.OPTION_INVALID


def test_it_starts_from_the_weights_that_it_was_given(place: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """With nothing to learn but the heads, what comes out must be what went in, to the last bit."""
    given = {}
    for name, seed in (("region", 1), ("slide", 2)):
        torch.manual_seed(seed)
        encoder = encoders.get(f"{name}-nano").build(weights=None)
        for p in encoder.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        save(encoder, tmp_path / f"{name}.safetensors")
        given[name] = Tower(id=f"{name}-nano", weights=tmp_path / f"{name}.safetensors")
    other = world.write_model(tmp_path / "other", seed=5)
    out = tmp_path / "out"
    record = run_align(world.config(other, *place[1:], steps=2, learn=(), **given), out)
    for name in given:
        kept = (tmp_path / f"{name}.safetensors").read_bytes()
        assert (out / "encoders" / f"{name}.safetensors").read_bytes() == kept
        assert record.metrics["encoders_given"][f"{name}-nano"] == record.metrics["encoders_gave"][name]
    now, then = load(out / "model")[0].state_dict(), load(other)[0].state_dict()
    assert all(torch.equal(now[k], then[k]) for k in then)
    first = load(place[0])[0].state_dict()
    assert any(not torch.equal(first[k], then[k]) for k in then), "the test needs two different models"
    # the first loss hangs on these weights
    again = world.config(place[0], *place[1:], steps=2, learn=(), **given)
    run_align(again, tmp_path / "again")
    assert world.log_of(out)[0]["loss"] != pytest.approx(world.log_of(tmp_path / "again")[0]["loss"], rel=1e-6)


def test_other_weights_than_those_in_the_folder_are_found_out(
    place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(folder: Path) -> tuple[object, object]:
        model, processor = load(folder)
        model.model.visual.ccaf.cls.data.add_(1.0)
        return model, processor

    monkeypatch.setattr("hwsi.training.stages.align.load", wrong)
    with pytest.raises(HwsiError) as e:
        run_align(world.config(*place), tmp_path)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
    assert "ccaf.cls" in e.value.what


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_unbroken(
    place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(log_every=1, save_every=3)
    config = world.config(*place, steps=8, watch=watch, contrast=Contrast(slides=6, chunk=4, temperature=0.1))
    run_align(config, tmp_path / "whole")

    calls = iter(range(99))

    def stops(*args: object, **options: object) -> dict[str, Tensor]:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return backward(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("hwsi.training.stages.align.backward", stops)
    with pytest.raises(KeyboardInterrupt):
        run_align(config, tmp_path / "broken")
    monkeypatch.undo()
    assert len(world.log_of(tmp_path / "broken")) == 5
    (tmp_path / "broken" / "checkpoints" / "checkpoint-4").mkdir()  # killed while writing: no mark in it
    run_align(config, tmp_path / "broken")
    assert world.log_of(tmp_path / "broken") == world.log_of(tmp_path / "whole")
    for file in ("encoders/region", "encoders/text", "encoders/heads", "model/model"):
        a, b = ((tmp_path / run / f"{file}.safetensors").read_bytes() for run in ("whole", "broken"))
        assert a == b, file


@pytest.mark.parametrize("pairing", ["maxsim", "index"])
def test_chunks_change_nothing(place: tuple[Path, Path, Path], pairing: str) -> None:
    found = []
    for chunk in (None, 1, 4):
        config = world.config(*place, contrast=Contrast(slides=6, temperature=0.1, chunk=chunk, pairing=pairing))
        ready = make_ready(config)
        ready.align.train()
        told = backward(ready.align, [ready.train[i] for i in (0, 1, 2, 3, 4, 7)], config, logged=False)
        grads = {n: p.grad.clone() for n, p in ready.align.named_parameters() if p.grad is not None}
        found.append((float(told["loss"]), grads))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert grads.keys() == found[0][1].keys()
        for name, g in grads.items():
            assert torch.allclose(g, found[0][1][name], rtol=1e-3, atol=2e-5), name
    assert {n.split(".")[0] for n in found[0][1]} == {"ccaf", "region", "slide", "text", "heads"}


def test_tokens_of_a_slide_do_not_hang_on_its_batch_mates(place: tuple[Path, Path, Path]) -> None:
    ready = make_ready(world.config(*place))
    ready.align.eval()
    alone = ready.align.represent([ready.train[1]])
    together = ready.align.represent([ready.train[0], ready.train[1], ready.train[2]])
    for name, x in alone.items():
        y = together[name][1:2, : x.shape[1]] if x.ndim > 1 else together[name][1:2]
        assert torch.allclose(y.double(), x.double(), atol=1e-5), name
        if name.startswith(("z_mask", "t_mask")):
            assert not together[name][1, x.shape[1] :].any()


def test_what_a_region_reads_is_what_encoding_gave_it(place: tuple[Path, Path, Path]) -> None:
    """Region and slide vectors made here equal those of the encoding path, for the same weights."""
    from hwsi.encoders.summaries import summarise_cells, summarise_tissue

    ready = make_ready(world.config(*place))
    ready.align.eval()
    (regions,), wholes = ready.align.context([ready.train[3]])
    f = read_features(place[1] / "features" / "s3.h5")
    tree = f.hierarchy
    cells = summarise_cells(f.cell["cell-nano"], tree.cells.type, tree.cells.patch, len(tree.patches))
    rows = torch.from_numpy(f.patch["patch-nano"])
    for r in range(len(tree.regions)):
        mine = (tree.patches.region == r) & ~tree.patches.background
        x = torch.cat([rows[mine], torch.from_numpy(cells[mine])], 1)[None]
        place_ = torch.from_numpy(tree.patches.row_col[mine])[None]
        expected = ready.align.region.encode(x, torch.ones(1, int(mine.sum()), dtype=torch.bool), place_)
        assert torch.allclose(regions[r], expected[0], atol=1e-4)
    columns = summarise_tissue([p[0] for p in f.tissue], tree.regions.tissue, tree.regions.xy, tree.regions.size0)
    assert list(tissue_rows(place[1] / "features" / "s3.h5").values()) == [tuple(map(float, c)) for c in columns]
    seen = torch.cat([regions, torch.from_numpy(columns)], 1)[None]
    mm = torch.from_numpy(tree.centre_mm(tree.regions.xy, tree.regions.size0))[None]
    expected = ready.align.slide.encode(seen, torch.ones(1, len(regions), dtype=torch.bool), mm)
    assert torch.allclose(wholes, expected, atol=1e-4)


def test_texts_keep_their_order_however_long_they_are(place: tuple[Path, Path, Path]) -> None:
    tower = make_ready(world.config(*place)).align.text.eval()
    texts = ["a long report about many glands and their mitoses " * 4, "fat", "keratin pearls", "ink", "fat " * 9]
    found = embed_texts(tower, texts)
    for text, vector in zip(texts, found, strict=True):
        assert torch.allclose(tower.encode([text])[0], vector, atol=1e-5)


def test_parents_are_those_of_the_tree(place: tuple[Path, Path, Path]) -> None:
    ready = make_ready(world.config(*place))
    rows = ready.align.represent([ready.train[0], ready.train[1]])
    kept = ready.train[1]
    assert rows["parent.patch"][1, : len(kept.of)].tolist() == kept.of.tolist()
    assert rows["parent.cell"][1, : len(kept.of)].tolist() == list(range(len(kept.of)))
    assert (rows["parent.region"][0] >= 0).sum() == len(ready.train[0].above.mm)
    assert rows["report."].tolist() == [report_id(world.report(0)), report_id(world.report(1))]


def refused(config: AlignConfig, out: Path) -> HwsiError:
    with pytest.raises(HwsiError) as e:
        run_align(config, out)
    assert not (out / "stage.json").exists()
    return e.value


def test_what_cannot_be_aligned_is_refused(place: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, job, reports = place
    assert refused(world.config(None, job, reports), tmp_path).reason is Reason.STAGE_MISSING
    assert refused(world.config(tmp_path / "no", job, reports), tmp_path).reason is Reason.STAGE_MISSING
    same = tmp_path / "same.jsonl"
    lines = [json.loads(line) for line in reports.read_text().splitlines()[:4]]
    same.write_text("".join(json.dumps(x | {"report": "Fat.", "patient": "p"}) + "\n" for x in lines))
    told = refused(world.config(model, job, same), tmp_path)
    assert told.reason is Reason.NO_NEGATIVES
    mean = Tower(id="slide-mean")
    assert refused(world.config(model, job, reports, slide=mean), tmp_path).reason is Reason.OPTION_INVALID
    swapped = Tower(id="slide-nano")
    assert refused(world.config(model, job, reports, region=swapped), tmp_path).reason is Reason.OPTION_INVALID
    misfit = Tower(id="hipt_vit4k", weights="none")
    assert refused(world.config(model, job, reports, region=misfit), tmp_path).reason is Reason.FEATURES_MISMATCH
    many = Contrast(slides=64)
    assert refused(world.config(model, job, reports, contrast=many), tmp_path).reason is Reason.OPTION_INVALID
    for wrong in ({"contrast": {"slides": 1}}, {"steps": 1, "epochs": 1}, {"nonsense": 1, "steps": 1}, {}):
        with pytest.raises(ValidationError):
            AlignConfig.model_validate(wrong)
    with pytest.raises(ValidationError, match="patience"):
        AlignConfig(steps=1, watch=Watch(patience=1, eval_every=5, save_every=5))


def test_slides_of_other_weights_are_refused(place: tuple[Path, Path, Path], tmp_path: Path) -> None:
    from hwsi.features import write_features

    job = tmp_path / "job"
    shutil.copytree(place[1], job)
    write_features(job / "features" / "s5.h5", world.made_slide(5, 5, sha="b" * 64))
    told = refused(world.config(place[0], job, place[2]), tmp_path / "out")
    assert told.reason is Reason.FEATURES_MISMATCH
    assert "patch-nano" in told.what


def test_bf16_and_constant_rate(place: tuple[Path, Path, Path], tmp_path: Path) -> None:
    steady = Optimiser(lr=1e-3, schedule="constant", warmup=0)
    run_align(world.config(*place, precision="bf16", optimiser=steady, steps=3), tmp_path)
    log = world.log_of(tmp_path)
    assert all(line["lr"] == 1e-3 for line in log)
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in log)


def test_a_yaml_file_is_read_and_checked(tmp_path: Path) -> None:
    from hwsi.training.stages.config import read_config

    file = tmp_path / "align.yaml"
    file.write_text(
        "stage: align\nstart: model\nregion: {id: region-nano, weights: none}\nepochs: 2\n"
        "contrast: {slides: 8, chunk: 2, temperature: 0.05}\ndata: {features: [job], reports: [r.jsonl]}\n"
    )
    read = read_config(file, AlignConfig)
    assert (read.contrast.slides, read.region.weights, read.epochs) == (8, "none", 2)
    assert read.data.reports == (tmp_path / "r.jsonl",)
    file.write_text("stage: align\nsteps: 3\ncontrast: {slide: 8}\n")
    with pytest.raises(HwsiError) as e:
        read_config(file, AlignConfig)
    assert e.value.reason is Reason.OPTION_INVALID
    assert "contrast.slide" in e.value.what


def test_a_gradient_that_is_not_finite_ends_the_run(
    place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(align: torch.nn.Module, *args: object, **options: object) -> dict[str, Tensor]:
        next(align.heads.parameters()).grad = torch.full_like(next(align.heads.parameters()), torch.nan)
        return {"loss": torch.tensor(torch.nan)}

    monkeypatch.setattr("hwsi.training.stages.align.backward", breaks)
    assert refused(world.config(*place), tmp_path).reason is Reason.DIVERGED
