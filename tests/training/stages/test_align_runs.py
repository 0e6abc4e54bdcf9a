"""Stage 1 where it takes longer: two processes, the paper's encoders, real phantom slides from pixels to retrieval."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import align_world as world
import numpy as np
import pytest
import torch
from align_worker import SHARES, gradients, settings

from hwsi import encoders
from hwsi.encoders.weights import sha256
from hwsi.features import read_features, write_features
from hwsi.model import HwsiConfig, HwsiForConditionalGeneration, HwsiProcessor, load, train_nano_tokenizer
from hwsi.model.config import HwsiVisualConfig
from hwsi.model.nano import nano_config
from hwsi.training.stages.align import make_ready, run_align
from hwsi.training.stages.align_config import Contrast, Tower
from hwsi.training.stages.align_tokens import refresh
from hwsi.training.stages.config import Data, Optimiser

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("align_worker.py")


def test_two_processes_have_the_gradient_of_one_and_run(tmp_path: Path) -> None:
    world.write_model(tmp_path / "model")
    world.write_world(tmp_path)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1",
            "--master_port", str(port), str(WORKER), str(tmp_path), str(tmp_path)]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    expected = gradients(settings(tmp_path), [i for share in SHARES for i in share])
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=2e-5), name
    assert [line["step"] for line in world.log_of(tmp_path / "run")] == [1, 2, 3]
    assert (tmp_path / "run" / "stage.json").is_file()
    load(tmp_path / "run" / "model")


def test_the_papers_encoders(tmp_path: Path) -> None:
    """ViT-4K over ViT-256's vectors, ViT_WSI over its regions, CCAF over CellViT's cells, CONCH's patches."""
    tokenizer = train_nano_tokenizer([world.report(k) for k in range(len(world.KINDS))])
    ids = {"slide": "vit-wsi-192", "region": "hipt_vit4k", "patch": "conch_v1", "cell": "cellvit_256"}
    small = nano_config(tokenizer)
    visual = HwsiVisualConfig(
        encoders=ids, dims={"slide": 192, "region": 192, "patch": 512, "cell": 384}, ccaf_width=64, max_cells=16
    )
    told = HwsiConfig(
        text_config=small.text_config, visual_config=visual, kept_patches=4, placeholder_ids=small.placeholder_ids
    )
    HwsiForConditionalGeneration(told).save_pretrained(tmp_path / "model")
    HwsiProcessor.for_model(told, tokenizer).save_pretrained(tmp_path / "model")
    job, reports = world.write_world(tmp_path)
    for path in sorted((job / "features").glob("*.h5")):
        f, rng = read_features(path), np.random.default_rng(len(path.name))
        wide = rng.normal(size=(64, 384)).astype(np.float32)
        patch, cell = f.patch["patch-nano"], f.cell["cell-nano"]
        write_features(path, world.replace(
            f, patch={"conch_v1": np.tile(patch, 3)[:, :512], "hipt_vit256": np.tile(patch, 2)},
            cell={"cellvit_256": cell @ wide}, region={}, slide={},
        ))  # fmt: skip
    begun = {n: Tower(id=i, weights="none") for n, i in (("region", "hipt_vit4k"), ("slide", "vit-wsi-192"))}
    frozen = ("ccaf", "slide", "text")
    config = world.config(tmp_path / "model", job, reports, steps=3, learn=frozen, **begun)
    before = make_ready(config).align.region.state_dict()
    run_align(config, tmp_path / "out")
    for name, i in (("region", "hipt_vit4k"), ("slide", "vit-wsi-192")):
        built = encoders.get(i).build(weights=tmp_path / "out" / "encoders" / f"{name}.safetensors")
        if name == "region":
            assert all(torch.allclose(v, before[k], atol=1e-3) for k, v in built.state_dict().items()), "it was frozen"
    losses = [line["loss"] for line in world.log_of(tmp_path / "out")]
    assert losses[-1] < losses[0]


def test_phantom_slides_from_pixels_to_retrieval(tmp_path: Path) -> None:
    from hwsi.encoding import encode_slide
    from hwsi.phantom.cohort import write_cohort
    from hwsi.training.data.phantom import write_texts
    from hwsi.training.nano.cohort import read_cohort

    cohort, job = tmp_path / "cohort", tmp_path / "job"
    write_cohort(cohort, 6, 9, split="train", sides_um=(768, 1024))
    for slide in read_cohort(cohort):
        encode_slide(slide.path, preset="nano", out=job)
    assert write_texts(cohort, job, tmp_path / "texts").reports == 6
    found = {name: Tower(id=f"{name}-nano") for name in ("region", "slide", "text")}
    config = world.config(
        world.write_model(tmp_path / "model"), job, tmp_path / "texts" / "reports.jsonl", steps=20, width=64,
        contrast=Contrast(slides=4, chunk=2), optimiser=Optimiser(lr=1e-3, warmup=0.1),
        data=Data(features=(job,), reports=(tmp_path / "texts" / "reports.jsonl",)), **found,
    )  # fmt: skip
    record = run_align(config, tmp_path / "out")
    log = world.log_of(tmp_path / "out")
    assert np.mean([x["loss"] for x in log[-3:]]) < 0.7 * np.mean([x["loss"] for x in log[:3]])
    slides = record.metrics["train_slides"]
    assert record.metrics["train_slide_to_text"] > 2 / slides
    assert record.metrics["train_text_to_slide"] > 2 / slides
    given = encoders.get("region-nano").weights_sha256()
    assert record.metrics["encoders_given"]["region-nano"] == given != record.metrics["encoders_gave"]["region"]

    at = tmp_path / "out" / "encoders"
    trained = {n: Tower(id=f"{n}-nano", weights=at / f"{n}.safetensors") for n in ("region", "slide")}
    visual = load(tmp_path / "out" / "model")[0].config.visual_config
    assert refresh(job, tmp_path / "new", visual=visual, **trained) == 6
    for path in sorted((job / "features").glob("*.h5")):
        old, new = read_features(path), read_features(tmp_path / "new" / "features" / path.name)
        assert np.array_equal(old.patch["patch-nano"], new.patch["patch-nano"])
        assert not np.allclose(old.slide["slide-nano"], new.slide["slide-nano"], atol=1e-2)
        told = new.provenance["encoders"]
        assert told["region-nano"]["weights_sha256"] == sha256(at / "region.safetensors")
        assert told["patch-nano"] == old.provenance["encoders"]["patch-nano"]
    # with the weights that encoded them, nothing changes
    same = {n: Tower(id=f"{n}-nano") for n in ("region", "slide")}
    refresh(job, tmp_path / "same", visual=visual, **same)
    for path in sorted((job / "features").glob("*.h5")):
        old, new = read_features(path), read_features(tmp_path / "same" / "features" / path.name)
        assert np.allclose(old.region["region-nano"], new.region["region-nano"], atol=1e-3)
        assert np.allclose(old.slide["slide-nano"], new.slide["slide-nano"], atol=1e-3)
