"""``hwsi serve``: the address that it prints, and what it refuses before anything listens."""

import pytest
from server_slides import make_folder

from hwsi.cli.serve import serve
from hwsi.errors import HwsiError


@pytest.fixture
def started(monkeypatch):
    """What uvicorn would have been told."""
    calls = []
    monkeypatch.setattr("uvicorn.run", lambda app, **how: calls.append((app, how)))
    return calls


def _serve(folder, **changes):
    given = {
        "port": 8000, "host": "127.0.0.1", "token": None, "preset": "nano", "job": None, "device": "auto",
        "show_labels": False, "tls_cert": None, "tls_key": None,
    }  # fmt: skip
    serve(folder, **{**given, **changes})


def test_the_address_has_the_token_behind_the_hash(tmp_path, made_slide, started, capsys):
    folder = make_folder(tmp_path, made_slide)
    _serve(folder)
    app, how = started[0]
    token = app.state.server.settings.token
    assert capsys.readouterr().out.strip() == f"http://127.0.0.1:8000/#token={token}"
    assert len(token) > 40
    assert (how["host"], how["access_log"]) == ("127.0.0.1", False)
    assert app.state.server.settings.job == folder / ".hwsi"
    app.state.server.close()


def test_what_is_refused(tmp_path, started):
    for wrong in (
        {"host": "0.0.0.0"}, {"host": "::"}, {"token": "short"}, {"tls_cert": tmp_path / "a.pem"},
        {"tls_cert": tmp_path / "a.pem", "tls_key": tmp_path / "b.pem"}, {"preset": "none"},
    ):  # fmt: skip
        with pytest.raises(HwsiError):
            _serve(tmp_path, **wrong)
    with pytest.raises(HwsiError):
        _serve(tmp_path / "nothing")
    assert not started
