"""A file is whole or not there, and nothing is left beside it."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path, write_atomic


def test_written_whole_with_usual_permissions(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "usual").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def fail_half_way(path, error):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way(path, RuntimeError("stop"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, Reason.DISK_FULL),
        (errno.EDQUOT, Reason.DISK_FULL),
        (errno.EROFS, Reason.OUTPUT_UNWRITABLE),
    ],
)
def test_what_the_system_says_becomes_a_reason(tmp_path, code, reason):
    path = tmp_path / "a.bin"
    with pytest.raises(HwsiError) as told:
        fail_half_way(path, OSError(code, os.strerror(code)))
    assert told.value.reason is reason
    assert not list(tmp_path.iterdir())


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    path = tmp_path / "a[1].bin"
    code = (
        "import sys, time, pathlib\n"
        "from hwsi.features.atomic import atomic_path\n"
        f"with atomic_path(pathlib.Path({str(path)!r})) as temporary:\n"
        "    temporary.write_bytes(b'half')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    dead, alive = (subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        for process in (dead, alive):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 2
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        write_atomic(path, b"whole")
        assert len(list(tmp_path.iterdir())) == 2  # the file, and the temporary of the living
        alive.send_signal(signal.SIGKILL)
        alive.wait()
        write_atomic(path, b"whole")
        assert list(tmp_path.iterdir()) == [path]
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait()


def test_a_temporary_is_locked_while_it_is_written(tmp_path):
    with atomic_path(tmp_path / "a.bin") as temporary:
        other = os.open(temporary, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    assert time.time() - (tmp_path / "a.bin").stat().st_mtime < 60
