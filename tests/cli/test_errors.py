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
        "ask": [bad / name, QUESTION, "--out", job, "--geojson", job / "e.geojson"],
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
    assert refused(run("ask", slide, QUESTION, "--geojson", tmp_path)) == "output_unwritable"
    assert refused(run("demo", "-o", tmp_path / "file")) == "output_unwritable"


def test_wrong_usage_is_one_line_too(run):
    assert refused(run("ask")) == "usage"
    assert refused(run("nonsense")) == "usage"
    assert refused(run("info", "a.svs", "--no-such-option")) == "usage"
    assert refused(run("phantom", "cohort", "x", "--slides", "0")) == "usage"


def test_one_bad_slide_does_not_end_a_cohort(run, nano, slide, bad, tmp_path):
    other = write_image(tmp_path / "other.tiff", tissue_pixels(1, 800))
    status, out, err = run("encode", slide, bad / "empty.svs", bad / "no-mpp.tiff", other, "--out", tmp_path / "job")
    assert status == 2
    assert [Path(line).name for line in out.splitlines()] == ["made.h5", "other.h5"]
    assert all(Path(line).exists() for line in out.splitlines())
    empty, no_mpp, last = err.splitlines()  # one line for each that failed, and a summary
    assert empty.startswith(f"hwsi: skipped {bad / 'empty.svs'}: [slide_empty] ")
    assert no_mpp.startswith(f"hwsi: skipped {bad / 'no-mpp.tiff'}: [mpp_missing] ")
    assert "--mpp" in no_mpp
    assert last.startswith("hwsi: error [slide_empty]: 2 of 4 slides were not encoded.")
    # what is done is not done again, and a slide named twice is encoded once
    status, out, err = run("encode", slide, other, slide, "--out", tmp_path / "job")
    assert (status, len(out.splitlines()), err) == (0, 2, "hwsi: all 2 slides are encoded\n")


def test_two_slides_of_one_name_are_not_mixed_up(run, nano, slide, tmp_path):
    (tmp_path / "b").mkdir()
    other = write_image(tmp_path / "b" / "made.tiff", tissue_pixels(1, 800))
    status, out, err = run("encode", slide, other, "--out", tmp_path / "job")
    assert (status, len(out.splitlines())) == (2, 1)
    assert "[features_mismatch]" in err.splitlines()[0]


def test_a_job_that_cannot_be_written_ends_at_once(run, nano, slide, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(run("encode", slide, slide, "--out", tmp_path / "file")) == "output_unwritable"


def test_one_mask_for_many_slides_is_refused(run, slide, tmp_path):
    args = ["encode", slide, slide, "--out", tmp_path / "job", "--mask", tmp_path / "m.png"]
    assert refused(run(*args)) == "option_invalid"


def test_info_reads_before_it_says_that_all_is_well(run, slide, tmp_path):
    path = SHARED / "data" / "slides" / "broken" / "unreadable.svs"
    if path.exists():
        assert refused(run("info", path)) == "slide_corrupt"
        assert refused(run("info", path, "--json")) == "slide_corrupt"
    # a copy that broke off; the library that reads it logs lines of its own, which nobody sees
    cut = tmp_path / "cut.tiff"
    cut.write_bytes(slide.read_bytes()[:-5000])
    code = [sys.executable, "-c", "import logging; logging.basicConfig(); import sys; from hwsi.cli.app import main;"]
    code[-1] += "sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([*code, "info", cut], capture_output=True, text=True, check=False)
    assert refused((done.returncode, done.stdout, done.stderr)) == "slide_corrupt"


def test_info_of_a_wrong_resolution_shows_the_slide(run, tmp_path):
    path = write_image(tmp_path / "x.tiff", tissue_pixels(side=512), mpp=70)
    status, out, err = run("info", path)
    assert (status, err) == (0, "")
    assert "70 x 70" in out
    assert "--mpp" in out


@pytest.mark.parametrize(
    "name", ["a b.tiff", "ü:smile:.tiff", "new\nline.tiff", "\x1b[31mred.tiff", os.fsdecode(b"caf\xe9.tiff")]
)
def test_names_of_files_reach_the_terminal_as_text(run, nano, slide, tmp_path, name):
    path = tmp_path / name
    shutil.copy(slide, path)
    status, out, err = run("info", path)
    assert status == 0, err
    assert out.count("\n") == run("info", slide)[1].count("\n")
    assert "\x1b" not in out
    assert run("info", path, "--json")[0] == 0
    status, out, err = run("encode", path, "--out", tmp_path / "job")
    assert status == 0, err
    if name.isprintable():
        assert out == f"{tmp_path / 'job' / 'features' / path.stem}.h5\n"


def test_directories_are_no_slides(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", "..", "/", tmp_path):
        assert refused(run("info", path)) == "slide_unsupported"


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
    code = [sys.executable, "-m", "hwsi", *args]
    done = subprocess.run(code, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_pipe_gets_no_control_codes(slide):
    code = [sys.executable, "-m", "hwsi", "info", str(slide)]
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
