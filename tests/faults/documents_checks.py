"""The checks of the `documents` workload: pure functions over the history and what the stores hold.

I1 what was accepted is done, I2 once, I3 order by key, I4 no ghost, I5 no letter that nobody wrote, I8 one key one
document, I9 the stores agree, I12 an honest surface.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults.documents_load import Known
from tests.faults.documents_state import DocumentsState
from tests.faults.findings import Findings
from tests.faults.history import History, Operation

LONGEST = 12.0
"""Seconds that an answer may take: the deadline of 10, and what a busy machine takes besides."""


def check_documents(history: History, state: DocumentsState, known: Mapping[str, Known]) -> Findings:
    """All of them; `known` are the documents as their clients know them."""
    findings = Findings(events=state.events)
    operations = list(history.operations())
    check_receipts(findings, operations, state)
    check_known(findings, operations, state, known)
    check_stores(findings, state)
    check_letters(findings, state)
    check_surface(findings, operations)
    return findings


def check_receipts(findings: Findings, operations: Sequence[Operation], state: DocumentsState) -> None:
    """I1: what was accepted has a receipt that has ended well."""
    for operation in operations:
        if operation.outcome == "fail":
            findings.complain("I12", f"{operation.op} was refused", operation.answer)
        receipt = operation.answer.get("operation") if operation.outcome == "ok" else None
        if receipt is None:
            continue
        ended = state.receipts.get(receipt)
        if ended is None:
            findings.lost += 1
        elif ended != "done":
            findings.complain("I1", f"{operation.op} is {ended}, and not done", receipt)


def check_known(
    findings: Findings, operations: Sequence[Operation], state: DocumentsState, known: Mapping[str, Known]
) -> None:
    """I1, I2, I4, I8: every document is there with its versions, or gone; there are no others."""
    there = state.live.keys() | state.deleted
    findings.lost += len(known.keys() - there)
    unknown = Counter(operation.asked.get("kind") for operation in operations if operation.outcome == "unknown")
    strange = there - known.keys()
    if len(strange) > unknown["upload"]:
        findings.doubled += len(strange) - unknown["upload"]
    for document, client in known.items():
        if client.busy and not client.deleted:
            continue  # its last command is unknown: it may have been done or not
        if client.deleted != (document in state.deleted):
            findings.lost += 1
            findings.complain("I1", f"{document} is {'still there' if client.deleted else 'gone'}")
        difference = state.versions.get(document, 0) - client.versions
        findings.lost += max(0, -difference)
        findings.doubled += max(0, difference)


def check_stores(findings: Findings, state: DocumentsState) -> None:
    """I9: database, files, chunks and vectors agree; nothing is left of what is gone."""
    for document, expected in state.live.items():
        chunks, vectors = state.chunks.get(document, Counter()), state.vectors.get(document, Counter())
        findings.doubled += sum(count - 1 for count in (*chunks.values(), *vectors.values()))
        if expected is None:
            findings.lost += 1
            findings.complain("I9", f"{document} was never parsed")
            continue
        findings.lost += max(0, expected - len(chunks)) + len(chunks.keys() - vectors.keys())
        if len(chunks) > expected or vectors.keys() - chunks.keys():
            findings.complain("I9", f"{document} has {len(chunks)} chunks, {len(vectors)} vectors, not {expected}")
        if state.indexed.get(document) != state.versions[document]:
            findings.complain("I9", f"of {document} version {state.indexed.get(document)} can be found")
    for what, held in (("chunks", state.chunks), ("vectors", state.vectors)):
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


def check_surface(findings: Findings, operations: Sequence[Operation]) -> None:
    """I12: what cannot be done is told as a problem, with when to come again, in time."""
    told: Counter[str] = Counter()
    for operation in operations:
        for attempt in operation.attempts:
            status, kind = attempt.get("status"), operation.asked.get("kind")
            if attempt["seconds"] > LONGEST or attempt.get("error") == "ReadTimeout":
                told[f"{kind} had no answer in time"] += 1
            if status is None or status < 400:
                continue
            if status >= 500 and status != 503:
                told[f"{kind} was answered {status}"] += 1
            if status in (429, 503) and not attempt.get("retry_after"):
                told[f"{kind} was answered {status} without Retry-After"] += 1
            if attempt.get("type") != "application/problem+json":
                told[f"{kind} was answered {status} as {attempt.get('type')}"] += 1
    for sentence, times in told.items():
        findings.complain("I12", f"{sentence}, {times} times")
