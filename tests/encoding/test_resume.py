"""Killed at any moment and run again: the same bytes, and never a broken file taken for whole."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import encoding_fakes as fakes
import numpy as np
import pytest

import hwsi.slide
from hwsi.encoding import encode_to_file
from hwsi.encoding.journal import Journal
from hwsi.errors import HwsiError, Reason
from hwsi.features import check_features, read_features
from hwsi.presets import load_preset

SMALL = load_preset("nano").model_copy(update={"region_px": 512})


@pytest.fixture(autouse=True)
def fake_rooms(monkeypatch):
    for name, fake in fakes.fake_slide_room().items():
        monkeypatch.setitem(vars(hwsi.slide), name, fake)


RUN = f"""
import os, pathlib, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
import encoding_fakes as fakes, hwsi.slide
from hwsi.encoding import encode_to_file
from hwsi.features import check_features
from hwsi.presets import load_preset

vars(hwsi.slide).update(fakes.fake_slide_room())
preset = load_preset("nano").model_copy(update={{"region_px": 512}})
slide, job, kills = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
target = job / "features" / "slide.h5"
rng = np.random.default_rng()
for _ in range(kills):
    child = os.fork()  # after the imports, so that a kill hits the work
    if not child:
        encode_to_file(slide, job, preset=preset, stack=fakes.fake_stack(pause=0.01))
        os._exit(0)
    time.sleep(rng.uniform(0.01, 0.2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if target.exists():
        check_features(target)  # it exists means that it is whole
    print(len(list(job.glob("partial/*/*.npz"))), target.exists(), flush=True)
"""


def test_killed_runs_end_in_the_same_bytes(tmp_path):
    slide, job = tmp_path / "slide.npy", tmp_path / "job"
    np.save(slide, fakes.speckled(512 * 5, 512 * 4, spacing=60)[0])
    whole = encode_to_file(slide, tmp_path / "whole", preset=SMALL, stack=fakes.fake_stack())
    run = subprocess.run([sys.executable, "-c", RUN, slide, job, "6"], capture_output=True, text=True, check=True)
    seen = [line.split() for line in run.stdout.splitlines()]
    assert len(seen) == 6
    done = [int(regions) for regions, finished in seen if finished == "False"]
    assert done == sorted(done)  # nothing that was done was lost
    path = encode_to_file(slide, job, preset=SMALL, stack=fakes.fake_stack())
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(str(p.relative_to(job)) for p in job.rglob("*")) == ["features", "features/slide.h5"]


def test_what_was_done_is_not_done_again(tmp_path, monkeypatch):
    pixels, _ = fakes.speckled(512 * 3, 512 * 2)
    first = fakes.fake_stack()
    stop_after = 5

    class Stop(Exception):
        pass

    put = Journal.put

    def put_and_stop(self, region, *rest):
        put(self, region, *rest)
        if region + 1 == stop_after:
            raise Stop

    monkeypatch.setattr(Journal, "put", put_and_stop)
    with pytest.raises(Stop):
        encode_to_file(fakes.FakeSlide(pixels), tmp_path / "job", preset=SMALL, stack=first)
    monkeypatch.setattr(Journal, "put", put)
    assert len(list((tmp_path / "job" / "partial" / "fake").glob("*.npz"))) == 5
    # one of the files is cut short, as after a power failure: that region is done again
    damaged = tmp_path / "job" / "partial" / "fake" / "000002.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    second = fakes.fake_stack()
    told = []
    path = encode_to_file(
        fakes.FakeSlide(pixels), tmp_path / "job", preset=SMALL, stack=second,
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert second.patch.images == 2 * 4
    assert next(step for step in told if step[0] == "regions") == ("regions", 4, 6)
    whole = encode_to_file(fakes.FakeSlide(pixels), tmp_path / "b", preset=SMALL, stack=fakes.fake_stack())
    assert path.read_bytes() == whole.read_bytes()


def test_partial_results_of_another_way_are_not_used(tmp_path):
    pixels, _ = fakes.speckled(512 * 2, 512)
    folder = tmp_path / "partial" / "fake"
    slide = fakes.FakeSlide(pixels)
    with Journal(folder, "made in another way") as journal:
        from hwsi.encoding.cells import CellBlock, Cells

        journal.put(0, np.full((4, 6), 7, np.float32), CellBlock(Cells.none(), {"cell-fake": np.zeros((0, 2))}))
    path = encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    assert not (read_features(path).patch["patch-fake"] == 7).any()


def test_leftovers_of_a_kill_after_the_rename_are_removed(tmp_path):
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    folder = tmp_path / "partial" / "fake"
    folder.mkdir(parents=True)
    (folder / "000000.npz").write_bytes(b"left")
    encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    assert not (tmp_path / "partial").exists()


def test_a_damaged_slide_leaves_nothing(tmp_path):
    slide = fakes.FakeSlide(fakes.speckled(512 * 4, 512)[0])
    read = slide.read

    def broken(x0, y0, size_px, mpp):
        if x0 > 1200:
            raise HwsiError(Reason.SLIDE_CORRUPT, "a tile is damaged")
        return read(x0, y0, size_px, mpp)

    slide.read = broken
    with pytest.raises(HwsiError, match="slide_corrupt"):
        encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    assert not list(tmp_path.iterdir())


def test_two_at_once_do_the_work_once(tmp_path):
    pixels, _ = fakes.speckled(512 * 3, 512 * 2)
    stacks = [fakes.fake_stack(pause=0.02) for _ in range(2)]
    threads = [
        threading.Thread(
            target=encode_to_file, args=(fakes.FakeSlide(pixels), tmp_path),
            kwargs={"preset": SMALL, "stack": stack},
        )
        for stack in stacks
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_features(tmp_path / "features" / "fake.h5")
    assert sorted(stack.patch.images for stack in stacks) == [0, 24]
    assert os.listdir(tmp_path) == ["features"]


def test_a_full_disk_keeps_what_was_done(tmp_path, monkeypatch):
    pixels, _ = fakes.speckled(512 * 3, 512)
    write_bytes, left = Path.write_bytes, [3]  # the key and two regions

    def full(self, data):
        if not left[0]:
            write_bytes(self, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(HwsiError, match="disk_full"):
        encode_to_file(fakes.FakeSlide(pixels), tmp_path, preset=SMALL, stack=fakes.fake_stack())
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    files = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["000000.npz", "000001.npz", "key", "lock"]
    again = fakes.fake_stack()
    encode_to_file(fakes.FakeSlide(pixels), tmp_path, preset=SMALL, stack=again)
    assert again.patch.images == 4


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HwsiError, match="output_unwritable"):
        encode_to_file(
            fakes.FakeSlide(fakes.speckled(512, 512)[0]), tmp_path / "file", preset=SMALL, stack=fakes.fake_stack()
        )


def test_a_share_that_went_away_keeps_what_was_done(tmp_path):
    """It may be back: only a damaged slide loses its journal."""
    slide = fakes.FakeSlide(fakes.speckled(512 * 4, 512)[0])
    read = slide.read

    def gone(x0, y0, size_px, mpp):
        if x0 > 1200:
            raise HwsiError(Reason.SLIDE_MISSING, "the share went away")
        return read(x0, y0, size_px, mpp)

    slide.read = gone
    with pytest.raises(HwsiError, match="slide_missing"):
        encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    assert len(list(tmp_path.glob("partial/fake/*.npz"))) == 3


def test_a_slide_cut_short_is_refused_before_the_work(tmp_path, monkeypatch):
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])

    def cut():
        raise HwsiError(Reason.SLIDE_CORRUPT, "cut short")

    monkeypatch.setattr(slide, "check", cut)
    stack = fakes.fake_stack()
    with pytest.raises(HwsiError, match="slide_corrupt"):
        encode_to_file(slide, tmp_path / "job", preset=SMALL, stack=stack)
    assert stack.patch.images == 0
    assert not (tmp_path / "job").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "features").write_text("in the way")
    (tmp_path / "b" / "features" / "fake.h5").mkdir(parents=True)
    for job in ("a", "b"):
        stack = fakes.fake_stack()
        with pytest.raises(HwsiError, match="output_unwritable"):
            encode_to_file(slide, tmp_path / job, preset=SMALL, stack=stack)
        assert stack.patch.images == 0


def test_who_leaves_a_journal_touches_nothing_of_the_next(tmp_path):
    """The folder of one who is done belongs to whoever comes next, also before the first has left."""
    folder = tmp_path / "partial" / "fake"
    first, second = Journal(folder, "a"), Journal(folder, "a")
    with first:
        first.remove()
        second.__enter__()
    assert (folder / "key").read_text() == "a"
    assert (folder / "lock").exists()
    second.__exit__(None, None, None)
    assert not (tmp_path / "partial").exists()


def test_a_journal_that_cannot_begin_lets_its_lock_go(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "partial" / "fake"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(HwsiError, match="disk_full"):
            Journal(folder, "a").__enter__()
    with (folder / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it


def test_a_process_that_works_in_another_way_is_not_waited_for(tmp_path):
    slide = fakes.FakeSlide(fakes.speckled(512, 512)[0])
    path = encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack())
    with Journal(tmp_path / "partial" / "fake", "another way"):
        assert encode_to_file(slide, tmp_path, preset=SMALL, stack=fakes.fake_stack()) == path
        assert (tmp_path / "partial" / "fake" / "key").exists()
