"""The checks of the `documents` workload: pure functions over the history and what the stores hold.

I1 what was accepted is done, I2 once, I3 order by key, I4 no ghost, I5 no letter that nobody wrote, I8 one key one
document, I9 the stores agree, I12 an honest surface.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.faults.documents_state import DocumentsState
from tests.faults.findings import Findings
from tests.faults.history import History, Operation
from tests.faults.surface import check_surface

_WITH_FILES = ("upload", "version")
LONGEST = 12.0
"""Seconds that an answer may take: the deadline of 10, and what a busy machine takes besides."""


def check_documents(history: History, state: DocumentsState, longest_upload: float = LONGEST) -> Findings:
    """All of them. `longest_upload`: seconds that an answer may take where a store of objects is silent."""
    findings = Findings(events=state.events)
    operations = list(history.operations())
    check_receipts(findings, operations, state)
    check_uploads(findings, operations, state)
    check_changes(findings, operations, state)
    check_stores(findings, state)
    check_letters(findings, state)
    check_surface(findings, [each for each in operations if each.asked.get("kind") in _WITH_FILES], longest_upload)
    check_surface(findings, [each for each in operations if each.asked.get("kind") not in _WITH_FILES], LONGEST)
    return findings


def check_receipts(findings: Findings, operations: Sequence[Operation], state: DocumentsState) -> None:
    """I1: what was accepted has a receipt that has ended well."""
    for operation in operations:
        if operation.outcome == "fail" and operation.asked.get("kind") != "look":
            findings.complain("I12", f"{operation.op} was refused", operation.answer)
        receipt = operation.answer.get("operation") if operation.outcome == "ok" else None
        if receipt is None:
            continue
        ended = state.receipts.get(receipt)
        if ended is None:
            findings.lost += 1
        elif ended != "done":
            findings.complain("I1", f"{operation.op} is {ended}, and not done", receipt)


def check_uploads(findings: Findings, operations: Sequence[Operation], state: DocumentsState) -> None:
    """I1, I2, I4, I8: what was accepted is there once; what is unknown once or not; what was refused is not."""
    by_name, sent = defaultdict[str, set[str]](set), set[str]()
    for document, name in state.names.items():
        by_name[name].add(document)
    for upload in (each for each in operations if each.asked.get("kind") == "upload"):
        there = by_name.pop(upload.asked["name"], set())
        sent |= there
        if upload.outcome == "ok":
            document = upload.answer["document"]
            sent.add(document)
            findings.lost += document not in there | state.deleted
            findings.doubled += len(there - {document})
        elif upload.outcome == "unknown":
            findings.doubled += max(0, len(there) - 1)
        elif there:
            findings.complain("I4", f"{upload.op} was refused, and is there")
    if strange := (state.live.keys() | state.deleted) - sent:
        findings.complain("I4", f"{len(strange)} documents were never sent", min(strange))


def check_changes(findings: Findings, operations: Sequence[Operation], state: DocumentsState) -> None:
    """I1, I2, I8: a document has the versions that it was given, with a receipt each; it is gone only when deleted."""
    changes = defaultdict[str, Counter[tuple[str, str]]](Counter)
    for operation in operations:
        if (document := operation.asked.get("document")) is not None:
            changes[document][operation.asked["kind"], operation.outcome] += 1
    for document, versions in state.versions.items():
        asked = changes[document]
        least = 1 + asked["version", "ok"]
        findings.lost += max(0, least - versions)
        findings.doubled += max(0, versions - least - asked["version", "unknown"])
        findings.lost += max(0, versions - state.accepted[document])
        findings.doubled += max(0, state.accepted[document] - versions)
        gone, deleted = document in state.deleted, asked["delete", "ok"] > 0
        if gone != deleted and not (gone and asked["delete", "unknown"]):
            findings.lost += 1
            findings.complain("I1", f"{document} is {'gone' if gone else 'still there'}")


def check_stores(findings: Findings, state: DocumentsState) -> None:
    """I9: database, files, chunks, vectors and drafts agree; nothing is left of what is gone."""
    for document, expected in state.live.items():
        chunks, vectors = state.chunks.get(document, Counter()), state.vectors.get(document, Counter())
        findings.doubled += sum(count - 1 for count in (*chunks.values(), *vectors.values()))
        findings.doubled += max(0, state.drafts[document] - state.drafts_each)
        findings.lost += max(0, state.drafts_each - state.drafts[document])
        if expected is None:
            findings.lost += 1
            findings.complain("I9", f"{document} was never parsed")
            continue
        findings.lost += max(0, expected - len(chunks)) + len(chunks.keys() - vectors.keys())
        if len(chunks) > expected or vectors.keys() - chunks.keys():
            findings.complain("I9", f"{document} has {len(chunks)} chunks, {len(vectors)} vectors, not {expected}")
        if state.indexed.get(document) != state.versions[document]:
            findings.lost += 1
            findings.complain("I9", f"of {document} version {state.indexed.get(document)} can be found")
    for what, held in (("chunks", state.chunks), ("vectors", state.vectors), ("drafts", state.drafts)):
        if strange := held.keys() - state.live.keys():
            findings.complain("I9", f"{len(strange)} documents that are not there have {what}", min(strange))
    if missing := state.files - state.objects:
        findings.lost += len(missing)
        findings.complain("I9", f"{len(missing)} files are not there", min(missing))


def check_letters(findings: Findings, state: DocumentsState) -> None:
    """I3, I5: an outage makes no dead letters, leaves nothing waiting, and no hole in a sequence."""
    findings.out_of_order += len(state.holes)
    findings.wrongly_dead += len(state.failed_jobs) + sum(1 for letter in state.held if letter[3] == "dead")
    for sentence, found in (("held", state.held), ("failed", state.failed_jobs), ("not contiguous", state.holes)):
        if found:
            findings.complain("I5", f"{len(found)} are {sentence}", found[0])
    if state.pending:
        findings.complain("I1", f"{state.pending} events never left the outbox")
