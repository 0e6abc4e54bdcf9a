"""Image-text pretraining: it learns, in stages, goes on as if unbroken, and gives what the registry loads."""

import json
from pathlib import Path

import pretrain_world as world
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from hwsi import encoders
from hwsi.encoders.weights import save
from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import PairRecord
from hwsi.training.stages import pretrain
from hwsi.training.stages.align_config import Tower
from hwsi.training.stages.config import Optimiser, Watch
from hwsi.training.stages.pretrain import backward, make_ready, run_pretrain
from hwsi.training.stages.pretrain_config import PairStage, PretrainConfig
from hwsi.training.stages.pretrain_data import PairRows, square


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    return world.write_pairs(folder, "general"), world.write_pairs(folder, "pathology", seed=1)


def config(pairs: tuple[Path, ...], steps: int = 5, **changes: object) -> PretrainConfig:
    names = ("general", "pathology")
    begun: dict[str, object] = {
        "patch": Tower(id="tiny-patch", weights="none"),
        "data": tuple(PairStage(name=n, pairs=(p,), steps=steps) for n, p in zip(names, pairs, strict=False)),
        "batch": 8,
        "val": 0.0,
        "optimiser": Optimiser(lr=5e-3, warmup=0.1),
        "watch": Watch(log_every=1, save_every=3),
        "device": "cpu",
    }
    return PretrainConfig(**(begun | changes))  # type: ignore[arg-type]


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_stages_of_data_learn_and_are_loaded_again(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    record = run_pretrain(config(pairs, steps=25), tmp_path)
    first, second = log_of(tmp_path / "general"), log_of(tmp_path / "pathology")
    assert [line["step"] for line in first] == [*range(1, 26)]
    assert first[-1]["loss"] < 0.7 * first[0]["loss"]
    assert second[0]["loss"] < 0.8 * first[0]["loss"], "the second stage goes on with the weights of the first"
    assert second[-1]["to_text"] > 0.7
    assert record.steps == 50
    assert 0.01 <= record.metrics["temperature"] <= 1
    assert record.metrics["temperature"] != pytest.approx(0.07, rel=1e-4)
    at = tmp_path / "encoders"
    patch, text = encoders.get("tiny-patch").build(weights=at / "patch.safetensors"), encoders.get("text-nano")
    assert patch.encode(torch.zeros(2, 24, 24, 3, dtype=torch.uint8)).shape == (2, 12)
    words = text.build(weights=at / "text.safetensors").encode(["pink stroma", "blue nuclei"])
    assert words.shape == (2, 192)
    assert (at / "head.safetensors").is_file(), "12 numbers are not 192"
    assert run_pretrain(config(pairs, steps=25), tmp_path) == record


def test_stopped_in_the_second_stage_it_goes_on_as_unbroken(
    pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = config(pairs, chunk=3)
    run_pretrain(told, tmp_path / "whole")
    calls = iter(range(99))

    def stops(*args: object) -> dict[str, Tensor]:
        if next(calls) == 9:
            raise KeyboardInterrupt
        return backward(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "backward", stops)
    with pytest.raises(KeyboardInterrupt):
        run_pretrain(told, tmp_path / "broken")
    monkeypatch.undo()
    assert len(log_of(tmp_path / "broken" / "pathology")) == 4
    run_pretrain(told, tmp_path / "broken")
    for name in ("general", "pathology"):
        assert log_of(tmp_path / "broken" / name) == log_of(tmp_path / "whole" / name)
    for name in ("patch", "text", "head"):
        a, b = ((tmp_path / run / "encoders" / f"{name}.safetensors").read_bytes() for run in ("whole", "broken"))
        assert a == b


def test_it_starts_from_the_weights_that_it_was_given(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    encoder = encoders.get("tiny-patch").build(weights=None)
    for p in encoder.parameters():
        p.data.add_(torch.randn_like(p))
    save(encoder, tmp_path / "given.safetensors")
    still = Optimiser(lr=1e-12, weight_decay=0)
    given = Tower(id="tiny-patch", weights=tmp_path / "given.safetensors")
    record = run_pretrain(config(pairs[:1], steps=1, patch=given, optimiser=still), tmp_path / "out")
    built = encoders.get("tiny-patch").build(weights=tmp_path / "out" / "encoders" / "patch.safetensors")
    for name, value in encoder.state_dict().items():
        assert torch.allclose(built.state_dict()[name], value, atol=2e-3)
    assert record.metrics["encoders_given"]["tiny-patch"] != "none"
    none = run_pretrain(config(pairs[:1], steps=1, optimiser=still), tmp_path / "none")
    assert none.metrics["encoders_given"]["tiny-patch"] == "none"
    assert log_of(tmp_path / "none" / "general")[0]["loss"] != log_of(tmp_path / "out" / "general")[0]["loss"]


def test_chunks_change_nothing(pairs: tuple[Path, Path]) -> None:
    found = []
    for chunk in (None, 3):
        told = config(pairs[:1], chunk=chunk)
        ready = make_ready(told)
        ready.model.eval()
        batch = [ready.pairs["general"][0][0, i] for i in range(8)]
        loss = backward(ready.model, batch, told)["loss"]
        found.append(
            (float(loss), {n: p.grad.clone() for n, p in ready.model.named_parameters() if p.grad is not None})
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert "log_temperature" in found[0][1]
    for name, g in found[0][1].items():
        assert torch.allclose(g, found[1][1][name], rtol=1e-3, atol=1e-6), name


def test_views_follow_from_their_place_in_the_run(pairs: tuple[Path, Path]) -> None:
    ready = make_ready(config(pairs[:1]))
    rows = ready.pairs["general"][0]
    assert torch.equal(rows[3, 1].image, rows[3, 1].image)
    assert not torch.equal(rows[3, 1].image, rows[4, 1].image)
    assert rows[0, 1].report == rows[0, 7].report != rows[0, 2].report
    plain = PairRows(rows.records, 24)
    assert torch.equal(plain[0, 1].image, plain[5, 1].image)


def test_the_middle_square_of_an_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), (255, 255, 255))
    image.paste((10, 20, 30), (20, 0, 40, 20))
    image.save(tmp_path / "a.png")
    pixels = square(PairRecord(image=tmp_path / "a.png", caption="x"), 16)
    assert pixels.shape == (16, 16, 3)
    assert (pixels[2:-2, 2:-2] == (10, 20, 30)).all()
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(HwsiError) as e:
        square(PairRecord(image=tmp_path / "b.png", caption="x"), 16)
    assert e.value.reason is Reason.DATA_INVALID


def test_held_out_groups_are_measured(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    record = run_pretrain(config(pairs[:1], steps=2, val=0.3), tmp_path)
    assert record.metrics["general_val_pairs"] in (6, 12)
    assert 0 <= record.metrics["general_val_to_text"] <= 1


def test_what_cannot_be_learned_from_is_refused(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    same = tmp_path / "same.jsonl"
    lines = [json.loads(line) for line in pairs[0].read_text().splitlines()]
    same.write_text(
        "".join(json.dumps(x | {"caption": "fat", "image": str(pairs[0].parent / x["image"])}) + "\n" for x in lines)
    )
    for told, reason in (
        (config((same,)), Reason.NO_NEGATIVES),
        (config((tmp_path / "no.csv",)), Reason.DATA_MISSING),
        (config(pairs[:1], batch=64), Reason.OPTION_INVALID),
        (config(pairs[:1], patch=Tower(id="text-nano", weights="none")), Reason.OPTION_INVALID),
    ):
        with pytest.raises(HwsiError) as e:
            run_pretrain(told, tmp_path / "out")
        assert e.value.reason is reason
    for wrong in ({"batch": 1}, {"data": ()}, {"temperature": 2}):
        with pytest.raises(ValidationError):
            config(pairs, **wrong)


@pytest.mark.slow
def test_encoders_of_others_are_saved_as_the_registry_reads_them(tmp_path: Path) -> None:
    from hwsi.training.stages.align_encoders import save_tower
    from hwsi.training.stages.pretrain import embed_images

    for encoder_id in ("conch_v1", "conch_v1_text", "hipt_vit256", "hipt_vit4k", "vit-wsi-192"):
        encoder = encoders.get(encoder_id).build(weights=None)
        path = tmp_path / f"{encoder_id}.safetensors"
        save_tower(encoder, path)
        again = encoders.get(encoder_id).build(weights=path).state_dict()
        assert all(torch.equal(again[k], v.half().float()) for k, v in encoder.state_dict().items())
        path.unlink()
    vit = encoders.get("hipt_vit256").build(weights=None)
    images = torch.randint(0, 255, (2, 256, 256, 3), dtype=torch.uint8)
    found = embed_images(vit, images, torch.device("cpu"))
    assert torch.allclose(found, vit.encode(images), atol=1e-5)
    found.sum().backward()


@pytest.mark.slow
def test_nano_from_phantom_patches(tmp_path: Path) -> None:
    from hwsi.phantom.cohort import write_cohort
    from hwsi.training.data.phantom import write_pairs

    write_cohort(tmp_path / "cohort", 3, 9, split="train", sides_um=(768, 1024))
    assert write_pairs(tmp_path / "cohort", tmp_path / "pairs.tar", per_slide=12) > 20
    told = config((tmp_path / "pairs.tar",), steps=6, patch=Tower(id="patch-nano", weights="none"), watch=Watch())
    record = run_pretrain(told, tmp_path / "out")
    assert not (tmp_path / "out" / "encoders" / "head.safetensors").exists()
    assert record.metrics["encoders_given"] == {"patch-nano": "none", "text-nano": "none"}
    encoders.get("patch-nano").build(weights=tmp_path / "out" / "encoders" / "patch.safetensors")
