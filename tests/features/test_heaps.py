"""A flipped bit in a heap of HDF5 is told before HDF5 goes round in it for ever."""

import contextlib
import multiprocessing
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.features.heaps import check_heaps


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("heap") / "told.h5"
    with h5py.File(path, "w") as file:
        for name in ("unit", "extractor", "of"):
            file.attrs[name] = name * 3
        file["rows"] = np.arange(100)
    return path.read_bytes()


def test_what_is_whole_passes(told, tmp_path):
    path = tmp_path / "told.h5"
    path.write_bytes(told)
    check_heaps(path)
    path.write_bytes(b"")
    check_heaps(path)
    path.write_bytes(b"GCOL none of HDF5")
    check_heaps(path)


def test_a_heap_is_found_across_the_border_of_two_blocks(told, tmp_path, monkeypatch):
    data = bytearray(told)
    heap = data.find(b"GCOL")
    data[heap + 24 + 5] ^= 1
    path = tmp_path / "told.h5"
    path.write_bytes(data)
    for block in range(heap + 1, heap + 8):
        monkeypatch.setattr("hwsi.features.heaps._BLOCK", block)
        with pytest.raises(ValueError, match=f"heap at {heap}"):
            check_heaps(path)


@pytest.mark.parametrize("field", [8, 24])  # size of the heap, size of its first object
@pytest.mark.parametrize("bit", [20, 47, 62])
def test_sizes_larger_than_the_heap_are_told(told, tmp_path, field, bit):
    data = bytearray(told)
    data[data.find(b"GCOL") + field + bit // 8] ^= 1 << bit % 8
    path = tmp_path / "told.h5"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="heap"):
        check_heaps(path)


def _read(path: Path) -> None:
    try:
        check_heaps(path)
        with h5py.File(path) as file:
            dict(file.attrs.items())
    except (OSError, RuntimeError, ValueError, KeyError):
        pass


def test_no_flipped_bit_of_a_size_hangs(told, tmp_path):
    heap = told.find(b"GCOL")
    for at in range(heap + 16, heap + 112):
        data = bytearray(told)
        data[at] ^= 0x80
        (tmp_path / f"{at}.h5").write_bytes(data)
    one = multiprocessing.get_context("fork").Process(target=_all, args=(tmp_path,))
    one.start()
    one.join(60)
    alive = one.is_alive()
    one.kill()
    assert (alive, one.exitcode) == (False, 0)


def _all(folder: Path) -> None:
    for path in sorted(folder.glob("*.h5")):
        _read(path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_pass_or_are_told(tmp_path_factory, noise, size):
    path = tmp_path_factory.mktemp("noise") / "any.h5"
    path.write_bytes(noise + b"GCOL\x01\0\0\0" + size.to_bytes(8, "little") + noise)
    with contextlib.suppress(ValueError):
        check_heaps(path)
