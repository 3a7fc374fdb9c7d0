"""Each check of the documents finds the violation that it is there for, and nothing in a good run."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.documents_checks import check_documents
from tests.faults.documents_load import Known
from tests.faults.documents_state import DocumentsState
from tests.faults.history import History


def run() -> tuple[History, DocumentsState, dict[str, Known]]:
    """A document with two versions, and one that was deleted."""
    history = History()
    for op, kind in (("o1", "upload"), ("o2", "version"), ("o3", "upload"), ("o4", "delete")):
        history.add("invoke", op, kind=kind)
        history.add("attempt", op, status=202, seconds=0.1, type="application/json")
        history.add("ok", op, operation=f"receipt of {op}")
    state = DocumentsState(
        live={"a": 2},
        versions={"a": 2, "b": 1},
        deleted=frozenset({"b"}),
        files=frozenset({"file of a"}),
        objects=frozenset({"file of a", "one that is collected later"}),
        chunks={"a": Counter(["c1", "c2"])},
        vectors={"a": Counter(["c1", "c2"])},
        indexed={"a": 2},
        receipts={f"receipt of o{n}": "done" for n in range(1, 5)},
    )
    return history, state, {"a": Known("a", versions=2), "b": Known("b", deleted=True, busy=True)}


def test_a_good_run_has_no_findings() -> None:
    found = check_documents(*run())
    assert (found.total, found.complaints) == (0, [])


@pytest.mark.parametrize(
    ("changed", "figure"),
    [
        ({"live": {}, "versions": {"b": 1}, "chunks": {}, "vectors": {}}, "lost"),  # the document is not there
        ({"versions": {"a": 1, "b": 1}, "indexed": {"a": 1}}, "lost"),  # a version is not there
        ({"versions": {"a": 3, "b": 1}, "indexed": {"a": 3}}, "doubled"),  # a version came twice
        ({"versions": {"a": 2, "b": 1, "z": 1}, "deleted": frozenset({"b", "z"})}, "doubled"),  # a document did
        ({"deleted": frozenset(), "live": {"a": 2, "b": 0}, "indexed": {"a": 2, "b": 1}}, "lost"),  # a deletion
        ({"chunks": {"a": Counter(["c1"])}, "vectors": {"a": Counter(["c1"])}}, "lost"),
        ({"vectors": {"a": Counter(["c1"])}}, "lost"),
        ({"vectors": {"a": Counter(["c1", "c2", "c2"])}}, "doubled"),
        ({"objects": frozenset()}, "lost"),
        ({"receipts": {"receipt of o1": "done"}}, "lost"),
        ({"holes": [("ingest", "kgl.documents", "a")]}, "out_of_order"),
        ({"held": [("graph", "graph.documents", "a", "dead", "failed")]}, "wrongly_dead"),
        ({"failed_jobs": [("graph", "graph.index", "no")]}, "wrongly_dead"),
    ],
)
def test_what_is_lost_doubled_or_dead_is_counted(changed: dict[str, Any], figure: str) -> None:
    history, state, known = run()
    assert getattr(check_documents(history, replace(state, **changed), known), figure) > 0


@pytest.mark.parametrize(
    ("changed", "invariant"),
    [
        ({"chunks": {"a": Counter(["c1", "c2"]), "b": Counter(["c9"])}}, "I9"),  # chunks of what is deleted
        ({"vectors": {"a": Counter(["c1", "c2"]), "b": Counter(["c9"])}}, "I9"),
        ({"vectors": {"a": Counter(["c1", "c2", "c9"])}}, "I9"),  # a vector of no chunk
        ({"indexed": {"a": 1}}, "I9"),  # an earlier version is found
        ({"pending": 1}, "I1"),
        ({"receipts": {f"receipt of o{n}": "failed" for n in range(1, 5)}}, "I1"),
    ],
)
def test_stores_that_do_not_agree_are_found(changed: dict[str, Any], invariant: str) -> None:
    history, state, known = run()
    complaints = check_documents(history, replace(state, **changed), known).complaints
    assert any(each.startswith(invariant) for each in complaints), complaints


@pytest.mark.parametrize(
    "attempt",
    [
        {"status": 500, "type": "application/problem+json", "seconds": 0.1},
        {"status": 503, "type": "application/problem+json", "seconds": 0.1},
        {"status": 503, "type": "text/html", "retry_after": "1", "seconds": 0.1},
        {"error": "ReadTimeout", "seconds": 15.0},
    ],
)
def test_a_dishonest_answer_is_found(attempt: dict[str, Any]) -> None:
    history, state, known = run()
    history.add("attempt", "o1", **attempt)
    assert any(each.startswith("I12") for each in check_documents(history, state, known).complaints)
