"""Each check of the documents finds the violation that it is there for, and nothing in a good run."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.documents_checks import check_documents
from tests.faults.documents_state import DocumentsState
from tests.faults.findings import Findings
from tests.faults.history import History

PROBLEM = {"status": 503, "retry_after": "2", "type": "application/problem+json"}
TWO = Counter(["c1", "c2"])


def attempt(history: History, op: str, **told: Any) -> None:
    history.add("attempt", op, **{"status": 202, "seconds": 0.1, "type": "application/json", **told})


def command(history: History, kind: str, document: str, outcome: str = "ok", number: int = 1) -> str:
    """One command, which is put off at first; an upload has the name of its document."""
    op = f"{kind}-{document}-{number}"
    history.add("invoke", op, kind=kind, **({"name": document} if kind == "upload" else {"document": document}))
    attempt(history, op, **PROBLEM)
    attempt(history, op)
    if outcome == "ok":
        history.add("ok", op, operation=f"receipt of {op}", document=document)
    elif outcome == "fail":
        history.add("fail", op, status=400)
    else:
        history.add("unknown", op)
    return op


def run() -> tuple[History, DocumentsState]:
    """A document with two versions, and one that was deleted; somebody looked at a page."""
    history = History()
    for kind, document in (("upload", "a"), ("version", "a"), ("upload", "b"), ("delete", "b")):
        command(history, kind, document)
    history.add("invoke", "look-1", kind="look", page="/content/v1/items")
    attempt(history, "look-1", **PROBLEM)
    history.add("fail", "look-1", status=503)
    state = DocumentsState(
        live={"a": 2},
        names={"a": "a"},
        versions={"a": 2, "b": 1},
        deleted=frozenset({"b"}),
        accepted=Counter({"a": 2, "b": 1}),
        files=frozenset({"file of a"}),
        objects=frozenset({"file of a", "one that is collected later"}),
        chunks={"a": TWO},
        vectors={"a": TWO},
        indexed={"a": 2},
        drafts=Counter({"a": 1}),
        drafts_each=1,
        receipts={each.data["operation"]: "done" for each in history.lines if "operation" in each.data},
    )
    return history, state


def there(state: DocumentsState, document: str, name: str) -> DocumentsState:
    """The same, with one more document that was parsed to nothing, found, and drafted."""
    return replace(
        state,
        live={**state.live, document: 0},
        names={**state.names, document: name},
        versions={**state.versions, document: 1},
        accepted=state.accepted | Counter([document]),
        indexed={**state.indexed, document: 1},
        drafts=state.drafts + Counter([document]),
    )


def figures(found: Findings) -> tuple[int, int, int, int]:
    return found.lost, found.doubled, found.out_of_order, found.wrongly_dead


def test_a_good_run_has_no_findings() -> None:
    found = check_documents(*run())
    assert (found.total, found.complaints) == (0, [])


@pytest.mark.parametrize(
    ("changed", "lost", "doubled"),
    [
        ({"deleted": frozenset(), "versions": {"a": 2}}, 1, 0),  # a document is not there
        ({"versions": {"a": 1, "b": 1}, "accepted": Counter("ab"), "indexed": {"a": 1}}, 1, 0),  # a version is not
        ({"versions": {"a": 3, "b": 1}, "accepted": Counter("aaab"), "indexed": {"a": 3}}, 0, 1),  # one came twice
        ({"accepted": Counter("aaab")}, 0, 1),  # its receipt did
        ({"accepted": Counter("ab")}, 1, 0),  # its receipt is not there
        ({"deleted": frozenset({"a", "b"}), "live": {}, "chunks": {}, "vectors": {}, "drafts": Counter()}, 1, 0),
        ({"live": {"a": None}}, 1, 0),  # it was never parsed
        ({"chunks": {"a": Counter(["c1"])}, "vectors": {"a": Counter(["c1"])}}, 1, 0),
        ({"vectors": {"a": Counter(["c1"])}}, 1, 0),
        ({"vectors": {"a": Counter(["c1", "c2", "c2"])}}, 0, 1),
        ({"indexed": {}}, 1, 0),
        ({"indexed": {"a": 1}}, 1, 0),  # an earlier version is found
        ({"drafts": Counter()}, 1, 0),
        ({"drafts": Counter({"a": 2})}, 0, 1),
        ({"objects": frozenset()}, 1, 0),
        ({"receipts": {}}, 4, 0),
    ],
)
def test_what_is_lost_or_doubled_is_counted(changed: dict[str, Any], lost: int, doubled: int) -> None:
    history, state = run()
    assert figures(check_documents(history, replace(state, **changed))) == (lost, doubled, 0, 0)


def test_a_document_that_was_deleted_and_is_there_is_found() -> None:
    history, state = run()
    found = check_documents(history, there(replace(state, deleted=frozenset()), "b", "b"))
    assert found.lost == 1 and found.complaints == ["I1: b is still there"]


@pytest.mark.parametrize(("documents", "doubled"), [("", 0), ("x", 0), ("xy", 1)])
def test_an_upload_that_is_unknown_may_be_there_once(documents: str, doubled: int) -> None:
    history, state = run()
    command(history, "upload", "name", "unknown")
    for document in documents:
        state = there(state, document, "name")
    found = check_documents(history, state)
    assert (figures(found), found.complaints) == ((0, doubled, 0, 0), [])


def test_an_upload_that_was_accepted_is_there_once() -> None:
    history, state = run()
    found = check_documents(history, there(state, "x", "a"))
    assert figures(found) == (0, 1, 0, 0)


@pytest.mark.parametrize(("versions", "doubled"), [(2, 0), (3, 0), (4, 1)])
def test_a_version_that_is_unknown_may_be_there_once(versions: int, doubled: int) -> None:
    history, state = run()
    command(history, "version", "a", "unknown", 2)
    accepted = Counter({"a": versions, "b": 1})
    changed = replace(state, versions={"a": versions, "b": 1}, accepted=accepted, indexed={"a": versions})
    assert figures(check_documents(history, changed)) == (0, doubled, 0, 0)


def test_a_deletion_that_is_unknown_may_have_been_done() -> None:
    history, state = run()
    command(history, "upload", "c")
    command(history, "delete", "c", "unknown")
    done = {**state.receipts, "receipt of upload-c-1": "done"}
    changed = replace(
        state, versions={**state.versions, "c": 1}, accepted=Counter("aabc"), deleted=frozenset("bc"), receipts=done
    )
    assert figures(check_documents(history, changed)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "invariant"),
    [
        ({"deleted": frozenset({"b", "z"})}, "I4"),
        ({"chunks": {"a": TWO, "b": Counter(["c9"])}}, "I9"),  # chunks of what is deleted
        ({"vectors": {"a": TWO, "b": Counter(["c9"])}}, "I9"),
        ({"drafts": Counter({"a": 1, "b": 1})}, "I9"),
        ({"vectors": {"a": TWO + Counter(["c9"])}}, "I9"),  # a vector of no chunk
        ({"chunks": {"a": TWO + Counter(["c9"])}}, "I9"),  # more chunks than there are in it
        ({"live": {"a": None}}, "I9"),
        ({"indexed": {"a": 1}}, "I9"),
        ({"objects": frozenset()}, "I9"),
        ({"pending": 1}, "I1"),
        ({"receipts": {f"receipt of {op}-1": "failed" for op in ("upload-a", "version-a")}}, "I1"),
    ],
)
def test_stores_that_do_not_agree_are_found(changed: dict[str, Any], invariant: str) -> None:
    history, state = run()
    complaints = check_documents(history, replace(state, **changed)).complaints
    assert any(each.startswith(invariant) for each in complaints), complaints


def test_what_was_refused_is_told_and_must_not_be_there() -> None:
    history, state = run()
    command(history, "upload", "c", "fail")
    assert [each[:4] for each in check_documents(history, state).complaints] == ["I12:"]
    found = check_documents(history, there(state, "z", "c"))
    assert "I4: upload-c-1 was refused, and is there" in found.complaints


def test_a_document_that_nobody_sent_is_found() -> None:
    history, state = run()
    assert check_documents(history, there(state, "z", "z")).complaints == ["I4: 1 documents were never sent, such as z"]


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"held": [("graph", "graph.documents", "a", "dead", "failed")]}, (0, 0, 0, 1)),
        ({"held": [("graph", "graph.documents", "a", "retrying", "failed")]}, (0, 0, 0, 0)),
        ({"failed_jobs": [("graph", "graph.index", "no")]}, (0, 0, 0, 1)),
        ({"holes": [("ingest", "kgl.documents", "a")]}, (0, 0, 1, 0)),
    ],
)
def test_what_an_outage_must_not_leave_is_found(changed: dict[str, Any], wrong: tuple[int, ...]) -> None:
    history, state = run()
    found = check_documents(history, replace(state, **changed))
    assert (figures(found), len(found.complaints)) == (wrong, 1)


@pytest.mark.parametrize("op", ["upload-a-1", "delete-b-1", "look-1"])
@pytest.mark.parametrize(
    "told",
    [
        {"status": 500, "type": "application/problem+json"},
        {"status": 503, "type": "application/problem+json"},
        {"status": 502, "type": "text/html", "retry_after": "1"},
        {"status": None, "error": "ReadTimeout", "seconds": 35.0},
        {"seconds": 13.0},
    ],
)
def test_a_dishonest_answer_is_found(op: str, told: dict[str, Any]) -> None:
    history, state = run()
    attempt(history, op, **told)
    complaints = check_documents(history, state).complaints
    assert len(complaints) == 1 and complaints[0].startswith("I12")


@pytest.mark.parametrize(
    ("op", "complaints"), [("upload-a-1", 0), ("version-a-1", 0), ("delete-b-1", 1), ("look-1", 1)]
)
def test_an_upload_may_wait_for_a_store_that_is_silent(op: str, complaints: int) -> None:
    history, state = run()
    attempt(history, op, seconds=29.0)
    assert len(check_documents(history, state, longest_upload=30.0).complaints) == complaints
