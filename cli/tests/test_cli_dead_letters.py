"""What the arguments of `kgl dead-letters` mean."""

import pytest
from typer.testing import CliRunner

from kgl_cli.dead_letter_requests import Refused, change_of, changed, filter_of, ids_of, json_of
from kgl_cli.main import app

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


def test_without_a_system_one_line_says_what_to_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    for words in (["list"], ["redrive", "--all"], ["show", ID]):
        done = CliRunner().invoke(app, ["dead-letters", *words], env={"KGL_HOME": str(home)})
        assert (done.exit_code, "make dev" in done.output) == (1, True)
