"""Each file of docs/extending.md, as it stands there, adds what it says: without a change to any of ours."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from byte_words import byte_words

from hwsi.features import read_features
from hwsi.phantom.cohort import write_phantom
from hwsi.phantom.spec import Spec

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "training" / room) for room in ("data", "stages")]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files of the page, and a small slide."""
    path = tmp_path_factory.mktemp("extending")
    for name, text in re.findall(r"^```\w+\n# (\w+\.\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        (path / name).write_text(text, encoding="utf-8")
    write_phantom(path / "slide.svs", Spec(seed=11, diagnosis="invasive ductal carcinoma", width_um=512, height_um=512))
    return path


def run(folder: Path, *words: str, extensions: str = "", code: str = "", path: str = "") -> str:
    """What a command prints; it must succeed."""
    call = ["-c", code] if code else ["-m", "hwsi", *words]
    env = os.environ | {"HWSI_EXTENSIONS": extensions} | ({"PYTHONPATH": path} if path else {})
    done = subprocess.run([sys.executable, *call], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(file: Path):
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_patch_encoder(folder):
    run(folder, "encode", "slide.svs", "--preset", "colour.yaml", "--out", "job", extensions="colour.py")
    features = read_features(folder / "job" / "features" / "slide.h5")
    vectors = features.patch["patch-colour"]
    tissue = ~features.hierarchy.patches.background
    assert vectors.shape == (len(tissue), 6)
    assert (vectors[tissue] > 0).all()
    assert not vectors[~tissue].any()
    assert features.region["region-mean"].shape[1] == 6
    assert "patch-colour" in run(folder, "models", "--json", extensions="colour.py")
    # a cohort's processes know it, too
    run(folder, "encode", ".", "--preset", "colour.yaml", "--out", "cohort", "--workers", "1", extensions="colour.py")
    made = read_features(folder / "cohort" / "features" / "slide.h5").patch["patch-colour"]
    np.testing.assert_array_equal(made, vectors)


def test_a_scale(folder, tmp_path):
    from data_fakes import made_features
    from stage_fakes import tiny_model

    from hwsi.features import write_features
    from hwsi.inference import Session
    from hwsi.model import load

    genes = imported(folder / "genes.py")
    before, words = tiny_model()
    before.save_pretrained(tmp_path / "start")
    words.save_pretrained(tmp_path / "start")
    genes.grow(tmp_path / "start", tmp_path / "grown")
    model, processor = load(tmp_path / "grown")
    kept = {name: weights for name, weights in model.state_dict().items() if name in before.state_dict()}
    assert len(kept) == len(before.state_dict()) == len(model.state_dict()) - 6  # the projector: a norm and two layers
    assert all(torch.equal(kept[name][: len(old)], old) for name, old in before.state_dict().items())

    slide = made_features(0, name="slide", rows=1, cols=1)
    asked = ("Is it large?", ["yes", "no"])
    alone = Session(before, words, slide).choice_log_probs(*asked)[0]
    lacking = Session(model, processor, slide).choice_log_probs(*asked)[0]
    np.testing.assert_allclose(np.diff(lacking), np.diff(alone), atol=1e-4)  # one word more shares the probability

    high = np.linspace(-1, 1, genes.GENES, dtype=np.float32)
    told = []
    for name, expression in (("high", high), ("low", -high)):
        file = tmp_path / f"{name}.h5"
        write_features(file, replace(slide, slide_name=name))
        genes.put(file, expression)
        told.append(read_features(file))

    rows = [
        processor.encode(one, [[
            {"role": "user", "content": f"{asked[0]}\nOptions: yes; no"}, {"role": "assistant", "content": answer},
        ]])
        for one, answer in zip(told, ("yes", "no"), strict=True)
    ]  # fmt: skip
    batch = processor.pad(rows)
    steps = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        steps.zero_grad()
        model(**batch).loss.backward()
        steps.step()
    sessions = [Session(model, processor, one) for one in told]
    # the tissue is the same: only the expression can tell
    assert [s.ask(*asked, evidence=False).text for s in sessions] == ["yes", "no"]
    answer = sessions[0].ask(*asked)
    assert {e.scale for e in answer.evidence} <= {"region", "patch", "cell"}


@pytest.mark.slow
def test_a_language_model(folder):
    known = imported(folder / "parrot.py")
    words = byte_words(4096)
    config = known.ParrotConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id, bos_token_id=None,
        max_position_embeddings=4096,
    )  # fmt: skip
    known.ParrotForCausalLM(config).save_pretrained(folder / "parrot-instruct")
    words.save_pretrained(folder / "parrot-instruct")
    run(folder, extensions="parrot.py", code=(folder / "wrap.py").read_text(encoding="utf-8"))
    text = (ROOT / "src" / "hwsi" / "presets" / "nano.yaml").read_text(encoding="utf-8")
    (folder / "parrot.yaml").write_text(f"{text}\nlanguage_model: parrot-hwsi\n", encoding="utf-8")
    asked = ["ask", "slide.svs", "Is there necrosis?", "--choices", "yes", "--choices", "no"]
    answer = json.loads(run(folder, *asked, "--preset", "parrot.yaml", "--json", extensions="parrot.py"))
    assert answer["text"] in ("yes", "no")


@pytest.fixture(scope="module")
def data(folder) -> Path:
    (folder / "data" / "ki67").mkdir(parents=True)
    rows = ["case,patient,ki67", "a,p1,below 5 %", "b,p2,above 20 %", "c,p3,above 20 %", "d,p3,plenty"]
    (folder / "data" / "ki67" / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "data"


@pytest.mark.slow
def test_a_dataset_and_a_metric(folder, data):
    both = os.pathsep.join(("ki67.py", "kappa.py"))
    listed = json.loads(run(folder, "bench", "list", "--data", "data", "--json", extensions=both))
    assert [row["here"] for row in listed if row["name"] == "ki67"] == [["data/ki67/cases.csv"]]
    run(folder, "bench", "run", "ki67", "--data", "data", "--no-features", "--out", "run", extensions=both)
    result = json.loads((folder / "run" / "closed.json").read_text(encoding="utf-8"))
    assert (result["benchmark"], result["rows"], result["unusable"]) == ("ki67", 3, {"answer_not_an_option": 1})
    assert "kappa_quadratic" in result["baselines"]["majority letter"]


def test_the_metric_is_what_it_says(folder):
    from sklearn.metrics import cohen_kappa_score

    from hwsi.benchmarks.datasets.record import Record
    from hwsi.benchmarks.metrics import registry

    module = imported(folder / "kappa.py")
    try:
        rng = np.random.default_rng(0)
        names = ("grade 1", "grade 2", "grade 3")
        true, said = (rng.integers(0, 3, 40) for _ in range(2))
        records = [Record("s", "p", "t", "a", "q", names, names[t], "test", "x@1", "0") for t in true]
        value = module.kappa(records, [names[s] for s in said])(np.ones(40))
        assert value == pytest.approx(cohen_kappa_score(true, said, weights="quadratic"))
        assert module.kappa(records, [None] * 40)(np.ones(40)) < 0
        with pytest.raises(ValueError, match="already"):
            registry.register(registry.Metric("kappa_quadratic", ("open",), module.kappa))
        taken = registry.register(registry.Metric("accuracy_micro", ("closed",), module.kappa))
        with pytest.raises(ValueError, match="already"):
            registry.with_added("closed", {"accuracy_micro": lambda counts: 1.0}, records, [None] * 40)
        assert registry.with_added("open", {}, records, [None] * 40) == {}
        assert taken.name in registry._ADDED
    finally:
        registry._ADDED.clear()


def test_a_package_needs_no_variable(folder, data, tmp_path):
    """It names its module under the entry points."""
    about = tmp_path / "ki67_pack-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ki67-pack\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hwsi.extensions]\nki67 = ki67_pack\n")
    (tmp_path / "ki67_pack.py").write_text((folder / "ki67.py").read_text(encoding="utf-8"), encoding="utf-8")
    listed = json.loads(run(folder, "bench", "list", "--json", path=str(tmp_path)))
    assert "ki67" in [row["name"] for row in listed]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("gone.py", None, "no Python file"),
        ("broken.py", "import nothing_of_this_name", "ModuleNotFoundError"),
        ("json.py", "", "is there already"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(name, text, what, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    env = os.environ | {"HWSI_EXTENSIONS": str(tmp_path / name)}
    call = [sys.executable, "-m", "hwsi", "bench", "list"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"hwsi: error \[option_invalid\]: [^\n]*{what}[^\n]*\n", done.stderr), done.stderr
