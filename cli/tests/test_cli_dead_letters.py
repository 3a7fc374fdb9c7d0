"""What the arguments of `kgl dead-letters` mean."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from kgl_cli import asking, dead_letters
from kgl_cli.asking import Refused
from kgl_cli.dead_letter_requests import (
    change_of,
    changed,
    decide_all,
    filter_of,
    ids_of,
    json_of,
)
from kgl_cli.home import Credentials
from kgl_cli.main import app
from kgl_client.api import Api

ID = "01a215fc-b626-75f5-ac52-ad00deed99ee"


def test_ids_and_filters_are_told_apart() -> None:
    assert ids_of([ID, ID]) == [ID, ID]
    assert ids_of([ID, "service=graph"]) == ids_of(["service=graph"]) == ids_of(None) == []
    assert filter_of(["service=graph", f"operation={ID}", "since=2026-11-25T00:00:00Z"]) == {
        "service": "graph",
        "operation_id": ID,
        "dead_at_gte": "2026-11-25T00:00:00Z",
    }
    for wrong in (ID, "colour=red", "service"):
        with pytest.raises(Refused, match="is none of these"):
            filter_of([wrong])


def test_changes_are_json_or_words_at_a_place_of_the_data() -> None:
    data = {"a": {"b": 1}, "c": "d"}
    changes = [change_of("a.b=2"), change_of("c=a word"), change_of('e=["x"]')]
    assert changed(data, changes) == {"a": {"b": 2}, "c": "a word", "e": ["x"]}
    with pytest.raises(Refused, match="path=value"):
        change_of("version")
    for nowhere in ({"a": 1}, None):
        with pytest.raises(Refused, match=r"have no a\.b"):
            changed(nowhere, [change_of("a.b=1")])
    with pytest.raises(Refused, match="line 3 is no JSON"):
        json_of(b"{", "line 3")


async def test_a_bulk_is_over_when_each_letter_is_and_those_that_are_not_done_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_cli.dead_letter_requests._PAUSE", 0.0)
    ids = [ID[:-1] + str(n) for n in range(5)]
    ends = iter((["done", "failed", "running", "waiting"], ["done", "failed", "done", "superseded"]))

    def receipt(states: list[str]) -> dict[str, Any]:
        named = zip(ids, states, strict=False)
        stages = [{"name": f"graph.redrive.{id}", "state": state, "error": None} for id, state in named]
        return {"id": ID, "state": "failed", "stages": stages}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=receipt(next(ends)))
        assert json.loads(request.content) == {"filter": {"ids": ids}}
        return httpx.Response(202, json={"receipt": receipt(["waiting"] * 4), "letters": 4, "more": False})

    async with Api("http://kgl", "key", transport=httpx.MockTransport(answer)) as api:
        receipts, left = await decide_all(api, ids, "redrive", {}, everything=False)
        assert await dead_letters._told(api, receipts, "handled", left=left) == 1
    assert capsys.readouterr().out.splitlines() == [
        "2 handled, 3 not",
        f"  graph.redrive.{ids[1]}: failed",
        f"  graph.redrive.{ids[3]}: superseded",
        f"  {ids[4]}: dead no more, or decided about already",
    ]


async def test_after_some_time_it_says_who_is_waited_for_and_that_it_may_be_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgl_cli.dead_letter_requests._PAUSE", 0.0)
    monkeypatch.setattr("kgl_cli.dead_letter_requests._WAIT", 0.0)
    states = iter(("waiting", "waiting", "done"))

    def answer(_: httpx.Request) -> httpx.Response:
        stages = [{"name": f"graph.redrive.{ID}", "state": next(states), "error": None}]
        return httpx.Response(200, json={"id": ID, "state": "running", "stages": stages})

    async with Api("http://kgl", "key", transport=httpx.MockTransport(answer)) as api:
        assert await dead_letters._told(api, [{"id": ID}], "handled") == 0
    said, end = capsys.readouterr().out.splitlines()
    assert said.startswith(f"graph.redrive.{ID}: waits for a worker of graph (kgl doctor ")
    assert f"Ctrl-C, GET /operations/v1/{ID}" in said
    assert end == "1 handled"


def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """The commands ask this instead of a system."""
    known = Credentials(
        url="http://kgl", email="e", password="p", workspace_id="w", workspace="l", api_key="k", module_key="m"
    )
    monkeypatch.setenv("KGL_HOME", str(tmp_path))
    monkeypatch.setattr(asking, "chosen_system", lambda *_: known)
    monkeypatch.setattr(asking, "Api", lambda *_: Api("http://kgl", "k", transport=httpx.MockTransport(answer)))


def test_what_fits_no_letter_is_said_with_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        counts = [{"subscription": "graph.documents", "count": 3}]
        return httpx.Response(200, json={"items": counts if request.url.path.endswith("counts") else [], "next": None})

    asked(monkeypatch, tmp_path, answer)
    for words in (["redrive"], ["correct", "--set", "a=1"], ["discard", "--reason", "r"]):
        done = CliRunner().invoke(app, ["dead-letters", *words, "service=grpah"])
        assert done.exit_code == 1
        assert "no dead letter is like this: service=grpah; there are 3 of graph.documents" in done.output
    done = CliRunner().invoke(app, ["dead-letters", "redrive", "--all"])
    assert (done.exit_code, done.output) == (0, "0 handled\n")
    done = CliRunner().invoke(app, ["dead-letters", "discard", "--all", "--reason", " "])
    assert (done.exit_code, "say why" in done.output) == (1, True)


def test_an_import_that_stops_says_what_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json={"id": ID, "state": "waiting", "stages": []})
        return httpx.Response(200, json={"id": ID, "payload": {"a": 1}, "corrected": None})

    asked(monkeypatch, tmp_path, answer)
    done = CliRunner().invoke(app, ["dead-letters", "import", str(tmp_path / "nowhere")])
    assert (done.exit_code, "No such file" in done.output) == (1, True)
    assert isinstance(done.exception, SystemExit)
    line = json.dumps({"id": ID, "payload": {"a": 2}, "corrected": None})
    for wrong in ("{", "{}"):
        (tmp_path / "letters").write_text(f"{line}\n{wrong}\n")
        done = CliRunner().invoke(app, ["dead-letters", "import", str(tmp_path / "letters")])
        assert done.exit_code == 1
        assert "1 corrected before line 2, at which it stops" in done.output
        assert "line 2 is no" in done.output


def test_an_import_leaves_out_what_somebody_decides_about_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(409, json={"code": "decision_under_way", "detail": "wait", "status": 409})
        return httpx.Response(200, json={"id": ID, "payload": {"a": 1}, "corrected": None})

    asked(monkeypatch, tmp_path, answer)
    (tmp_path / "letters").write_text(json.dumps({"id": ID, "payload": {"a": 2}, "corrected": None}) + "\n")
    done = CliRunner().invoke(app, ["dead-letters", "import", str(tmp_path / "letters")])
    assert (done.exit_code, "1 are not dead any more, or decided about already" in done.output) == (0, True)


async def test_a_bulk_that_is_about_none_any_more_names_them_all() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={"code": "dead_letter_not_found", "detail": "none", "status": 404})

    ids = [ID[:-1] + str(n) for n in range(2)]
    async with Api("http://kgl", "key", transport=httpx.MockTransport(answer)) as api:
        assert await decide_all(api, ids, "discard", {"reason": "r"}, everything=False) == ([], ids)


def test_without_a_system_one_line_says_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    for words in (["list"], ["redrive", "--all"], ["show", ID]):
        done = CliRunner().invoke(app, ["dead-letters", *words], env={"KGL_HOME": str(home)})
        assert (done.exit_code, "make dev" in done.output) == (1, True)
