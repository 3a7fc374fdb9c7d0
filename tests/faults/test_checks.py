"""Each check finds the violation that it is there for, and nothing in a run that was as it should be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.faults.checks import check_events
from tests.faults.contract import ITEMS, TAKEN
from tests.faults.events_state import EventsState
from tests.faults.findings import Findings
from tests.faults.history import History

FINE = {"status": 201, "seconds": 0.01, "type": "application/json"}


def command(history: History, op: str, items: list[str], numbers: list[int], **attempt: Any) -> None:
    """A command that was acknowledged."""
    history.add("invoke", op, kind="command", writes=[{"item": item} for item in items], twins=1)
    history.add("attempt", op, **{**FINE, **attempt})
    history.add("ok", op, numbers=numbers, command=f"id of {op}", same=True)


def run() -> tuple[History, EventsState]:
    """Two commands that wrote three events of two items, which all have their effects; one event has a call."""
    history = History()
    command(history, "c1", ["a", "b"], [1, 1])
    command(history, "c2", ["a"], [2])
    state = EventsState(
        written=[
            ("id of c1", "a", 1, None, False),
            ("id of c1", "b", 1, None, True),
            ("id of c2", "a", 2, None, False),
        ],
        effects=[
            ("taken", "a", 1, 1),
            ("taken", "b", 1, 1),
            ("followed", "a", 1, 1),
            ("taken", "a", 2, 2),
            ("followed", "b", 1, 1),
            ("called", "b", 1, None),
            ("followed", "a", 2, 2),
        ],
        sequences=[(ITEMS.name, "a", 2, 2), (ITEMS.name, "b", 1, 1), (TAKEN.name, "a", 2, 2), (TAKEN.name, "b", 1, 1)],
    )
    return history, state


def checked(history: History, state: EventsState, **how: Any) -> Findings:
    return check_events(history, state, **how)


def test_a_good_run_has_no_findings() -> None:
    found = checked(*run())
    assert (found.events, found.total, found.complaints) == (3, 0, [])


def test_an_acknowledged_command_that_is_not_written_is_lost() -> None:
    history, state = run()
    command(history, "c3", ["b", "b"], [2, 3])
    assert checked(history, state).lost == 2


def test_an_effect_that_is_missing_is_lost_at_its_hop() -> None:
    history, state = run()
    for place, hop in enumerate(("taken", "followed", "called")):
        effects = [row for row in state.effects if row[:3] not in {(hop, "b", 1)}]
        found = checked(history, replace(state, effects=effects))
        assert found.lost == 1, (place, hop)


def test_an_effect_that_is_there_twice_is_doubled() -> None:
    history, state = run()
    assert checked(history, replace(state, effects=[*state.effects, ("called", "b", 1, None)])).doubled == 1


def test_a_command_that_is_written_twice_is_doubled() -> None:
    history, state = run()
    assert checked(history, replace(state, written=[*state.written, state.written[0]])).doubled == 1


def test_effects_of_a_key_in_another_order_are_found() -> None:
    history, state = run()
    effects = [*state.effects]
    effects[0], effects[3] = effects[3], effects[0]
    assert checked(history, replace(state, effects=effects)).out_of_order == 1


def test_a_hole_in_the_sequence_of_a_key_is_found() -> None:
    history, state = run()
    found = checked(history, replace(state, sequences=[(ITEMS.name, "a", 2, 3), *state.sequences[1:]]))
    assert found.out_of_order == 1 and any(each.startswith("I3") for each in found.complaints)


@pytest.mark.parametrize(
    ("changed", "invariant"),
    [
        ({"effects": [("taken", "c", 1, 1)]}, "I4"),  # an effect of nothing
        ({"sequences": [(ITEMS.name, "c", 1, 1)]}, "I4"),  # an event without a row
        ({"sequences": [(TAKEN.name, "c", 1, 1)]}, "I4"),  # an event without an effect
        ({"written": [("a stranger", "d", 1, None, False)]}, "I4"),  # a command that nobody sent
        ({"pending": 1}, "I1"),  # an event that never left
        ({"held": [("faults.items", "a", 3, "retrying", "failed", None, 1)]}, "I5"),  # still being tried
    ],
)
def test_what_nobody_asked_for_is_found(changed: dict[str, Any], invariant: str) -> None:
    history, state = run()
    more: dict[str, Any] = {
        name: value if name == "pending" else [*getattr(state, name), *value] for name, value in changed.items()
    }
    complaints = checked(history, replace(state, **more)).complaints
    assert any(each.startswith(invariant) for each in complaints), complaints


def test_a_healthy_event_that_is_dead_is_wrongly_so() -> None:
    history, state = run()
    held = [("faults.items", "a", 2, "dead", "failed", None, 3)]
    effects = [row for row in state.effects if row[1:3] != ("a", 2)]
    found = checked(history, replace(state, held=held, effects=effects, sequences=()))
    assert found.wrongly_dead == 1 and found.lost == 0


def poisoned() -> tuple[History, EventsState]:
    """A run in which the second event of an item raises, and the third waits behind it."""
    history, state = run()
    command(history, "c3", ["a"], [3])
    written = [*state.written[:2], ("id of c2", "a", 2, "raises", False), ("id of c3", "a", 3, None, False)]
    effects = [row for row in state.effects if row[1:3] != ("a", 2)]
    held = [
        ("faults.items", "a", 2, "dead", "failed", "t", 3),
        ("faults.items", "a", 3, "waiting", "behind", "t", 0),
    ]
    sequences = [(ITEMS.name, "a", 3, 3), (ITEMS.name, "b", 1, 1), (TAKEN.name, "a", 1, 1), (TAKEN.name, "b", 1, 1)]
    return history, replace(state, written=written, effects=effects, held=held, sequences=sequences)


def test_dead_letters_are_exactly_the_poison() -> None:
    history, state = poisoned()
    found = checked(history, state)
    assert (found.total, found.complaints) == (0, [])
    assert any("no dead letters" in each for each in checked(history, replace(state, held=state.held[1:])).complaints)
    wrong = [("faults.items", "a", 2, "dead", "rejected", "t", 1), state.held[1]]
    assert any("because it rejected" in each for each in checked(history, replace(state, held=wrong)).complaints)


def test_an_effect_of_what_is_dead_is_found() -> None:
    history, state = poisoned()
    found = checked(history, replace(state, effects=[*state.effects, ("taken", "a", 2, 2)]))
    assert any(each.startswith("I5") for each in found.complaints)


def test_injected_records_have_to_be_dead_letters() -> None:
    history, state = run()
    letter = ("faults.items", "bad", None, "dead", "unreadable", None, 1)
    assert checked(history, replace(state, held=[letter]), injected={"bad"}).complaints == []
    assert checked(history, state, injected={"bad"}).complaints != []
    assert checked(history, replace(state, held=[letter])).wrongly_dead == 1


def test_an_unknown_command_is_written_whole_or_not_at_all() -> None:
    history, state = run()
    history.add("invoke", "c4", kind="command", writes=[{"item": "e"}, {"item": "f"}], twins=1)
    history.add("unknown", "c4")
    assert checked(history, state).complaints == []
    half = replace(state, written=[*state.written, ("unknown's", "e", 1, None, False)])
    assert any("in part" in each for each in checked(history, half).complaints)


@pytest.mark.parametrize(
    ("note", "found"),
    [
        ({"kind": "replay", "same": False, "status": 201}, True),
        ({"kind": "replay", "same": True, "status": 201}, False),
        ({"kind": "other_body", "status": 201}, True),
        ({"kind": "other_body", "status": 422}, False),
    ],
)
def test_an_idempotency_key_that_is_not_kept_is_found(note: dict[str, Any], found: bool) -> None:
    history, state = run()
    history.add("note", "c1", **note)
    assert any(each.startswith("I8") for each in checked(history, state).complaints) == found


@pytest.mark.parametrize(
    "attempt",
    [
        {"status": 500, "type": "application/problem+json"},
        {"status": 503, "type": "application/problem+json"},  # without Retry-After
        {"status": 503, "type": "text/plain", "retry_after": "1"},
        {"status": 201, "type": "application/json", "seconds": 12.0},
        {"error": "ReadTimeout", "seconds": 10.0},
    ],
)
def test_a_dishonest_answer_is_found(attempt: dict[str, Any]) -> None:
    history, state = run()
    history.add("attempt", "c1", **{"seconds": 0.1, **attempt})
    assert any(each.startswith("I12") for each in checked(history, state).complaints)


def test_the_history_is_kept_line_by_line(tmp_path: Path) -> None:
    history = History(tmp_path / "run.jsonl")
    history.add("invoke", "c1", kind="command", writes=[])
    history.add("ok", "c1", numbers=[])
    history.close()
    lines = [orjson.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["invoke", "ok"]
    assert lines[0]["mono"] <= lines[1]["mono"] and lines[0]["wall"] > 0
