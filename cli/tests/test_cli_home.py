"""KGL_HOME: what is kept, what is refused, and which port is taken."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from kgl_cli.home import Credentials, Home, HomeRefused, Running, free_port
from kgl_cli.locks import only_dev

CREDENTIALS = Credentials(
    url="http://localhost:1", email="e", password="p", workspace_id="w", workspace="lab", api_key="k", module_key="m"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_credentials_are_kept_by_url_and_readable_by_nobody_else(home: Home) -> None:
    home.write_credentials(CREDENTIALS)
    home.write_credentials(replace(CREDENTIALS, url="http://localhost:2", api_key="k2"))
    assert home.credentials("http://localhost:1") == CREDENTIALS
    assert home.credentials("http://localhost:3") is None
    newest = home.any_credentials()
    assert newest is not None
    assert newest.api_key == "k2"
    assert (home.path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_passwords_are_made_once(home: Home) -> None:
    first = home.passwords(["a", "b"])
    assert home.passwords(["a", "b", "c"]) == {**first, "c": home.passwords(["c"])["c"]}
    assert first["a"] != first["b"]


def test_a_port_is_kept_until_it_is_taken(home: Home) -> None:
    port = free_port()
    home.keep_port(port)
    assert home.port() == (port, False)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        other, moved = home.port()
    assert (moved, other != port) == (True, True)


def test_a_dev_that_is_gone_does_not_run_and_one_at_a_time_has_a_home(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_cli.locks._LOOKED_AT", 0.0)
    running = Running(pid=os.getpid(), port=9, url="http://localhost:9")
    home.write_running(running)
    assert (home.dev(), home.running()) == (None, None)
    with only_dev(home):
        assert (home.dev(), home.running()) == (os.getpid(), None)
        with pytest.raises(HomeRefused, match=f"starts or ends on this KGL_HOME .pid {os.getpid()}"), only_dev(home):
            pass
        home.write_running(running)
        assert home.running() == running
        with pytest.raises(HomeRefused, match="runs on this KGL_HOME already: http://localhost:9"), only_dev(home):
            pass
    assert (home.dev(), home.running()) == (None, None)


def test_roots_home_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(HomeRefused, match="KGL_HOME=/var/lib/kgl"):
        Home(tmp_path / "project" / ".kgl").check()
    Home(tmp_path.parent / "elsewhere").check()
