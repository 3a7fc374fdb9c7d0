"""Each check of the `uploads` workload finds the violation that it is there for, and nothing in a good run."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.findings import Findings
from tests.faults.history import History
from tests.faults.uploads_checks import check_uploads
from tests.faults.uploads_state import Stored, UploadsState

PROBLEM = {"status": 503, "retry_after": "2", "type": "application/problem+json"}
STORED = Stored(
    name="x-1.md",
    operations=["o1"],
    chunk_count=2,
    objects={"ingest/w/a/1": True, "ingest/w/chunks/d1": True},
    indexed=True,
    chunks=Counter({"c1": 1, "c2": 1}),
    vectors=Counter({"c1": 1, "c2": 1}),
    items=1,
)


def attempt(history: History, op: str, **told: Any) -> None:
    history.add("attempt", op, **{"status": 202, "seconds": 0.1, "path": "/ingest/v1/documents", **told})


def upload(history: History, number: int, outcome: str = "ok") -> None:
    """A document that was sent; it is refused for a while at first."""
    op, name = f"upload-{number}", f"x-{number}.md"
    history.add("invoke", op, kind="upload", name=name)
    attempt(history, op, **PROBLEM)
    attempt(history, op)
    if outcome == "ok":
        history.add("ok", op, name=name, operation=f"o{number}", document=f"d{number}")
    elif outcome == "fail":
        history.add("fail", op, status=400)
    else:
        history.add("unknown", op)


def run(**changed: Any) -> tuple[History, UploadsState]:
    """One document, in every store."""
    history = History()
    upload(history, 1)
    return history, UploadsState(documents={"d1": replace(STORED, **changed)}, operations={"o1": "done"})


def figures(found: Findings) -> tuple[int, int, int, int]:
    return found.lost, found.doubled, found.out_of_order, found.wrongly_dead


def test_a_good_run_has_no_findings() -> None:
    found = check_uploads(*run())
    assert (found.total, found.complaints) == (0, [])


def test_an_accepted_document_that_is_not_there_is_lost() -> None:
    history, state = run()
    upload(history, 2)
    assert figures(check_uploads(history, state)) == (1, 0, 0, 0)


def test_a_receipt_that_has_not_ended_well_is_told() -> None:
    history, state = run()
    found = check_uploads(history, replace(state, operations={"o1": "running"}))
    assert found.complaints == ["I1: upload-1 is running, and not done, such as o1"]


@pytest.mark.parametrize(("there", "doubled"), [(0, 0), (1, 0), (2, 1)])
def test_what_is_unknown_may_be_there_once(there: int, doubled: int) -> None:
    history, state = run()
    upload(history, 2, "unknown")
    more = {f"d{number}": replace(STORED, name="x-2.md", operations=[f"o{number}"]) for number in range(2, 2 + there)}
    found = check_uploads(history, replace(state, documents={**state.documents, **more}))
    assert (figures(found), found.complaints) == ((0, doubled, 0, 0), [])


def test_what_was_refused_is_not_there() -> None:
    history, state = run()
    upload(history, 2, "fail")
    documents = {**state.documents, "d2": replace(STORED, name="x-2.md")}
    assert any(c.startswith("I4") for c in check_uploads(history, replace(state, documents=documents)).complaints)


@pytest.mark.parametrize(
    ("changed", "lost", "doubled"),
    [
        ({"items": 0}, 1, 0),
        ({"items": 2}, 0, 1),
        ({"operations": ["o1", "o2"]}, 0, 1),
        ({"indexed": False}, 1, 0),
        ({"chunks": Counter({"c1": 1}), "vectors": Counter({"c1": 1})}, 1, 0),
        ({"vectors": Counter({"c1": 1})}, 1, 0),
        ({"vectors": Counter({"c1": 1, "c2": 2})}, 0, 1),
        ({"objects": {"ingest/w/a/1": False}}, 1, 0),
    ],
)
def test_a_store_that_lacks_or_repeats_something_is_told(changed: dict[str, Any], lost: int, doubled: int) -> None:
    assert figures(check_uploads(*run(**changed))) == (lost, doubled, 0, 0)


def test_vectors_of_no_chunk_are_told() -> None:
    found = check_uploads(*run(vectors=Counter({"c1": 1, "c2": 1, "c3": 1})))
    assert found.complaints == ["I9: 1 vectors of d1 are of no chunk, such as c3"]


@pytest.mark.parametrize(
    ("changed", "wrong", "complaints"),
    [
        ({"held": [("graph", "graph.documents", "k", "dead", "failed")]}, (0, 0, 0, 1), 0),
        ({"held": [("graph", "graph.documents", "k", "retrying", "failed")]}, (0, 0, 0, 0), 1),
        ({"failed_jobs": [("graph", "graph.embed", "no")]}, (0, 0, 0, 1), 1),
        ({"holes": [("ingest", "kgl.documents", "k")]}, (0, 0, 1, 0), 0),
        ({"pending": 3}, (0, 0, 0, 0), 1),
    ],
)
def test_what_an_outage_must_not_leave_is_told(
    changed: dict[str, Any], wrong: tuple[int, ...], complaints: int
) -> None:
    history, state = run()
    found = check_uploads(history, replace(state, **changed))
    assert (figures(found), len(found.complaints)) == (wrong, complaints)


@pytest.mark.parametrize(
    "told",
    [
        {"status": 500, "type": "application/problem+json"},
        {"status": 503, "type": "application/problem+json"},
        {"status": 502, "type": "text/html", "retry_after": "1"},
        {"status": None, "error": "ReadTimeout", "seconds": 60.0},
        {"status": 202, "seconds": 31.0},
    ],
)
def test_an_answer_that_is_none_is_told(told: dict[str, Any]) -> None:
    history, state = run()
    attempt(history, "upload-1", **told)
    found = check_uploads(history, state)
    assert len(found.complaints) == 1 and found.complaints[0].startswith("I12")
