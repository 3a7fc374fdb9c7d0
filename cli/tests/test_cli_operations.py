"""What `kgl operations retry` waits for, and says."""

import asyncio
import os
import signal
from typing import Any
from uuid import UUID

import httpx
import pytest
from typer.testing import CliRunner

from kgl_cli import asking, operations
from kgl_cli.home import Credentials
from kgl_cli.main import app
from kgl_client.api import Api

ID = UUID("01a215fc-b626-75f5-ac52-ad00deed99ee")


def receipt(**stages: tuple[str, int]) -> dict[str, Any]:
    shown = [
        {"name": name, "state": state, "run": run, "error": "hurts" if state == "failed" else None}
        for name, (state, run) in stages.items()
    ]
    return {"id": str(ID), "stages": shown}


@pytest.mark.parametrize("patience", [10.0, 0.0])
async def test_it_waits_for_the_next_run_of_what_failed_and_names_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], patience: float
) -> None:
    monkeypatch.setattr(operations, "_PAUSE", 0.0)
    monkeypatch.setattr(operations, "_PATIENCE", patience)
    before = {"parse": ("done", 2), "index": ("failed", 1), "link": ("failed", 3)}
    after = {**before, "index": ("waiting", 2)}
    later = {**after, "link": ("waiting", 4)}
    answers = iter([receipt(**before), receipt(**after), receipt(**later)])

    def answer(request: httpx.Request) -> httpx.Response:
        accepted = request.method == "POST" and request.url.path == f"/operations/v1/{ID}:retry"
        return httpx.Response(202 if accepted else 200, json=next(answers))

    async with Api("http://test", "key", transport=httpx.MockTransport(answer)) as api:
        status = operations._told(ID, *await operations.retried(api, ID))
    said = capsys.readouterr().out.splitlines()
    if patience:
        assert (status, said) == (0, ["index: run 2, waiting", "link: run 4, waiting"])
    else:
        assert status == 0
        assert said[:2] == ["index: run 2, waiting", "link: hurts, not tried again so far"]
        assert f"kgl dead-letters list operation={ID}" in said[2]


def test_without_a_system_it_says_so_in_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_HOME", str(tmp_path))
    ended = CliRunner().invoke(app, ["operations", "retry", str(ID)])
    assert ended.exit_code == 1
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("words", [["operations", "retry", str(ID)], ["dead-letters", "redrive", str(ID)]])
def test_one_that_is_stopped_while_it_waits_says_that_it_is_not_done(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Api):
        async def __aenter__(self) -> "Silent":
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
            raise AssertionError

    known = Credentials(
        url="http://kgl", email="e", password="p", workspace_id="w", workspace="l", api_key="k", module_key="m"
    )
    monkeypatch.setattr(asking, "chosen_system", lambda *_: known)
    monkeypatch.setattr(asking, "Api", Silent)
    ended = CliRunner().invoke(app, words)
    assert (ended.exit_code, ended.output) == (130, "stopped by SIGINT before it was done\n")
