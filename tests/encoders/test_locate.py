"""Where weights are looked for: in which order, and what is said when they are not here."""

from dataclasses import replace
from pathlib import Path

import pytest

from hwsi import encoders
from hwsi.encoders.locate import find, how_to_get, locate, variable
from hwsi.errors import HwsiError, Reason

UNI = encoders.get("uni_v1")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWSI_WEIGHTS", str(tmp_path / "weights.yaml"))
    monkeypatch.delenv(variable("uni_v1"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))


def cached(tmp_path: Path, revision: str) -> Path:
    """A file in the Hub's cache, as huggingface_hub lays it."""
    repo = tmp_path / "hub" / "models--MahmoodLab--UNI"
    file = repo / "snapshots" / "a1b2" / UNI.hub_file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"hub")
    (repo / "refs").mkdir()
    (repo / "refs" / revision).write_text("a1b2")
    return file


def test_the_order_is_path_variable_list_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(UNI) is None
    hub = cached(tmp_path, UNI.revision)
    found = find(UNI)
    assert found is not None
    assert (Path(str(found.file)).read_bytes(), found.source) == (b"hub", "Hub cache")
    files = {name: tmp_path / name for name in ("listed", "named", "handed")}
    for name, file in files.items():
        file.write_text(name)
    (tmp_path / "weights.yaml").write_text(f"uni_v1: {files['listed']}\n")
    assert locate(UNI) == files["listed"]
    monkeypatch.setenv(variable("uni_v1"), str(files["named"]))
    assert locate(UNI) == files["named"]
    assert locate(UNI, files["handed"]) == files["handed"]
    assert hub.exists()


def test_another_revision_in_the_cache_is_not_taken(tmp_path: Path) -> None:
    cached(tmp_path, "main")
    assert find(replace(UNI, revision="0" * 40)) is None


def test_a_named_place_that_holds_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, UNI.revision)
    monkeypatch.setenv(variable("uni_v1"), str(tmp_path / "gone.bin"))
    with pytest.raises(HwsiError, match=r"gone\.bin") as e:
        find(UNI)
    assert e.value.reason is Reason.WEIGHTS_MISSING
    assert variable("uni_v1") in str(e.value)


def test_what_is_not_here_is_told_in_one_line() -> None:
    with pytest.raises(HwsiError) as e:
        UNI.build()
    assert e.value.reason is Reason.WEIGHTS_MISSING
    for part in ("ask for access", UNI.hub, UNI.hub_file, UNI.licence, "HWSI_WEIGHTS_UNI_V1"):
        assert part in e.value.todo
    assert "\n" not in str(e.value)
    assert "ask for access" not in how_to_get(encoders.get("phikon"))


def test_a_damaged_list_is_refused(tmp_path: Path) -> None:
    for content in ("- a\n- b\n", "uni_v1: [1]\n", "{"):
        (tmp_path / "weights.yaml").write_text(content)
        with pytest.raises(HwsiError, match=r"weights\.yaml") as e:
            find(UNI)
        assert e.value.reason is Reason.OPTION_INVALID


def test_the_package_and_what_has_no_weights() -> None:
    found = find(encoders.get("patch-nano"))
    assert found is not None
    assert found.source == "package"
    assert encoders.get("slide-mean").build() is not None
    assert encoders.get("slide-mean").weights_sha256() == ""
