"""Bad input: one line on stderr with a reason code and what to do, status 2, nothing left behind."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_slides import tissue_pixels, write_image

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
LINE = re.compile(r"hwsi: error \[([a-z_]+)\]: .+\.\n")


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def refused(result: tuple[int, str, str]) -> str:
    """The reason code, after checking everything else."""
    status, out, err = result
    assert status == 2, err
    assert out == ""
    found = LINE.fullmatch(err)
    assert found, err
    assert "Traceback" not in err
    return found.group(1)


QUESTION = "What tissue is this?"


@pytest.fixture
def bad(tmp_path, slide):
    """name -> a file that cannot be read."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.svs").write_text("this is not a slide\n" * 50)
    (folder / "empty.svs").touch()
    (folder / "cut.tiff").write_bytes(slide.read_bytes()[:3000])
    write_image(folder / "no-mpp.tiff", tissue_pixels(side=512), mpp=None)
    write_image(folder / "blank.tiff", np.full((1024, 1024, 3), 245, np.uint8))
    write_image(folder / "coarse.tiff", tissue_pixels(side=512), mpp=29)
    return folder


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("missing.svs", {"slide_missing"}),
        ("empty.svs", {"slide_empty"}),
        ("text.svs", {"slide_unsupported", "slide_corrupt"}),
        ("cut.tiff", {"slide_unsupported", "slide_corrupt"}),
        ("no-mpp.tiff", {"mpp_missing"}),
        ("blank.tiff", {"no_tissue"}),
        ("coarse.tiff", {"too_coarse"}),
    ],
)
@pytest.mark.parametrize("verb", ["ask", "encode", "report"])
def test_bad_slides(run, nano, bad, tmp_path, name, codes, verb):
    job = tmp_path / "job"
    job.mkdir()
    args = {
        "ask": [bad / name, QUESTION, "--out", job, "--evidence", job / "e.geojson"],
        "encode": [bad / name, "--out", job],
        "report": [bad / name, "-o", job / "r.html"],
    }[verb]
    assert refused(run(verb, *args)) in codes
    assert [p for p in tree(job) if (job / p).is_file()] == []


@pytest.mark.parametrize("name", ["broken.svs", "unreadable.svs", "unopenable.tiff", "label_only.dcm"])
def test_broken_slides_from_the_wild(run, nano, name, tmp_path):
    path = SHARED / "data" / "slides" / "broken" / name
    if not path.exists():
        pytest.skip(f"no {path.name} beside this checkout")
    code = refused(run("ask", path, QUESTION, "--out", tmp_path / "job"))
    assert code.startswith("slide_") or code == "too_small"  # one has 16 pixels a side
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("", "question_empty"),
        ("  \n", "question_empty"),
        ("why " * 25_000, "question_too_long"),
        ("what is <|patch|>", "question_invalid"),
    ],
)
def test_bad_questions_before_any_work(run, slide, question, code, monkeypatch):
    monkeypatch.setattr("hwsi.inference.session.study", lambda *a, **k: pytest.fail("work was begun"))
    assert refused(run("ask", slide, question)) == code
    assert refused(run("ask", slide, question, "--json")) == code


def test_bad_choices(run, slide):
    assert refused(run("ask", slide, QUESTION, "--choices", "a")) == "question_invalid"
    assert refused(run("ask", slide, QUESTION, "--choices", "a", "--choices", "A")) == "question_invalid"


@pytest.fixture
def encoded(run, nano, slide, tmp_path) -> Path:
    status, out, err = run("encode", slide, "--out", tmp_path / "job")
    assert status == 0, err
    return Path(out.splitlines()[0])


def test_bad_feature_files(run, nano, slide, encoded, tmp_path):
    other = write_image(tmp_path / "other.tiff", tissue_pixels(1, 800))
    assert refused(run("ask", other, QUESTION, "--features", encoded)) == "features_mismatch"
    cut = tmp_path / "cut.h5"
    cut.write_bytes(encoded.read_bytes()[: encoded.stat().st_size // 2])
    assert refused(run("ask", slide, QUESTION, "--features", cut)) == "features_corrupt"
    text = tmp_path / "text.h5"
    text.write_text("no features\n")
    assert refused(run("ask", slide, QUESTION, "--features", text)) == "features_corrupt"
    assert refused(run("ask", slide, QUESTION, "--features", tmp_path / "no.h5")) == "features_missing"


def test_bad_options(run, slide, tmp_path):
    assert refused(run("ask", slide, QUESTION, "--preset", "nowhere")) in ("preset_unknown", "weights_missing")
    assert refused(run("info", slide, "--mpp", "-1")) == "mpp_invalid"
    assert refused(run("phantom", "slide", tmp_path / "o.svs", "--diagnosis", "flu")) == "option_invalid"
    assert refused(run("phantom", "cohort", tmp_path / "c", "--slides", "1", "--split", "moon")) == "option_invalid"
    assert refused(run("bench", "run", "nothing")) == "option_invalid"
    assert not (tmp_path / "o.svs").exists()


def test_outputs_are_checked_before_the_work(run, slide, tmp_path, monkeypatch):
    monkeypatch.setattr("hwsi.inference.session.study", lambda *a, **k: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("in the way")
    assert refused(run("report", slide, "-o", tmp_path / "file" / "r.html")) == "output_unwritable"
    assert refused(run("ask", slide, QUESTION, "--evidence", tmp_path)) == "output_unwritable"
    assert refused(run("demo", "-o", tmp_path / "file")) == "output_unwritable"


def test_wrong_usage_is_one_line_too(run):
    assert refused(run("ask")) == "usage"
    assert refused(run("nonsense")) == "usage"
    assert refused(run("info", "a.svs", "--no-such-option")) == "usage"
    assert refused(run("phantom", "cohort", "x", "--slides", "0")) == "usage"


def test_one_bad_slide_does_not_end_a_cohort(run, nano, slide, bad, tmp_path):
    status, out, err = run("encode", bad / "empty.svs", slide, "--out", tmp_path / "job")
    assert status == 2
    assert out.strip().endswith("made.h5")
    assert Path(out.strip()).exists()
    assert "skipped" in err
    assert "[slide_empty]" in err.splitlines()[-1]


def test_a_bug_is_one_line_unless_asked(run, slide, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("what\nnow \x1b[31m")

    monkeypatch.setattr("hwsi.slide.open_slide", broken)
    status, out, err = run("info", slide)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "RuntimeError: what now" in err
    assert "\x1b" not in err
    monkeypatch.setenv("HWSI_DEBUG", "1")
    with pytest.raises(RuntimeError):
        run("info", slide)


def test_an_interrupt_ends_quietly(run, slide, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hwsi.slide.open_slide", interrupted)
    status, out, err = run("info", slide)
    assert (status, out) == (130, "")
    assert "Traceback" not in err


def test_a_full_disk_is_told(run, slide, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("hwsi.slide.open_slide", full)
    assert refused(run("info", slide)) == "disk_full"


@pytest.mark.parametrize("args", [["--help"], ["info", "--json"]])
def test_a_reader_that_goes_away_is_no_traceback(args, slide):
    """``hwsi info SLIDE --json | true``."""
    args = [*args, str(slide)] if args[0] == "info" else args
    read, write = os.pipe()
    os.close(read)
    code = [sys.executable, "-m", "hwsi.cli.app", *args]
    done = subprocess.run(code, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_pipe_gets_no_control_codes(slide):
    code = [sys.executable, "-m", "hwsi.cli.app", "info", str(slide)]
    done = subprocess.run(code, capture_output=True, text=True, check=False, env={**os.environ, "TERM": "xterm"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_the_line_has_no_control_codes(run, tmp_path):
    name = tmp_path / "evil\x1b[2J\nname.svs"
    status, _, err = run("info", name)
    assert status == 2
    assert err.count("\n") == 1
    assert "\x1b" not in err
    shutil.rmtree(tmp_path)
