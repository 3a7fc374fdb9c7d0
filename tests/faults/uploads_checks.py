"""The checks of the `uploads` workload: pure functions over the history and what the stores hold.

I1 nothing accepted is lost, I2 no effect twice, I3 order by key, I4 no ghost, I5 no letter that nobody wrote, I9 the
stores agree, I12 an honest surface.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.faults.findings import Findings
from tests.faults.history import History, Operation
from tests.faults.uploads_state import Stored, UploadsState

LONGEST_LOOK = 10.5
LONGEST_UPLOAD = 30.0
"""Seconds that an answer may take; an upload also waits for a store of objects that is silent."""


def check_uploads(history: History, state: UploadsState) -> Findings:
    """All of them."""
    findings = Findings()
    operations = list(history.operations())
    check_accepted(findings, [each for each in operations if each.asked.get("kind") == "upload"], state)
    for document, stored in state.documents.items():
        check_stores(findings, document, stored)
    check_letters(findings, state)
    check_surface(findings, operations)
    return findings


def check_accepted(findings: Findings, uploads: Sequence[Operation], state: UploadsState) -> None:
    """I1, I2, I4: what was accepted is there once, and done; what is unknown once or not; what was refused not."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for document, stored in state.documents.items():
        by_name[stored.name].append(document)
    for upload in uploads:
        there = by_name.pop(upload.asked["name"], [])
        findings.doubled += max(0, len(there) - 1)
        if upload.outcome == "fail":
            findings.complain("I12", f"{upload.op} was refused", upload.answer)
            if there:
                findings.complain("I4", f"{upload.op} was refused, and is there")
        if upload.outcome != "ok":
            continue
        ended = state.operations.get(upload.answer["operation"])
        if upload.answer["document"] not in there or ended is None:
            findings.lost += 1
        elif ended != "done":
            findings.complain("I1", f"{upload.op} is {ended}, and not done", upload.answer["operation"])
    if by_name:
        findings.complain("I4", f"{len(by_name)} documents were never sent", min(by_name))


def check_stores(findings: Findings, document: str, stored: Stored) -> None:
    """I1, I2, I9: a document is in each store, once: files, chunks, vectors, draft."""
    findings.doubled += max(0, len(stored.operations) - 1) + max(0, stored.items - 1)
    findings.doubled += sum(count - 1 for count in (*stored.chunks.values(), *stored.vectors.values()))
    findings.lost += (stored.items == 0) + (not stored.indexed)
    findings.lost += max(0, stored.chunk_count - len(stored.chunks)) + len(stored.chunks.keys() - stored.vectors.keys())
    if strange := stored.vectors.keys() - stored.chunks.keys():
        findings.complain("I9", f"{len(strange)} vectors of {document} are of no chunk", min(strange))
    if len(stored.chunks) > stored.chunk_count:
        findings.complain("I9", f"{document} has {len(stored.chunks)} chunks, and was parsed to {stored.chunk_count}")
    if missing := [key for key, there in stored.objects.items() if not there]:
        findings.lost += len(missing)
        findings.complain("I9", f"files of {document} are not there", missing[0])


def check_letters(findings: Findings, state: UploadsState) -> None:
    """I1, I3, I5: an outage makes no dead letters, leaves nothing waiting, and no hole in a sequence."""
    findings.out_of_order += len(state.holes)
    findings.wrongly_dead += len(state.failed_jobs)
    for letter in state.held:
        if letter[3] == "dead":
            findings.wrongly_dead += 1
        else:
            findings.complain("I5", "an event is still held", letter)
    for job in state.failed_jobs:
        findings.complain("I5", "a job has failed", job)
    if state.pending:
        findings.complain("I1", f"{state.pending} events never left the outbox")


def check_surface(findings: Findings, operations: Sequence[Operation]) -> None:
    """I12: what cannot be done is told as a problem, with when to come again, in time."""
    told: Counter[str] = Counter()
    for operation in operations:
        longest = LONGEST_LOOK if operation.asked.get("kind") == "look" else LONGEST_UPLOAD
        for attempt in operation.attempts:
            status, path = attempt.get("status"), attempt["path"]
            if attempt["seconds"] > longest or attempt.get("error") == "ReadTimeout":
                told[f"{path} had no answer for {attempt['seconds']:.0f} s"] += 1
            if status is None or status < 400:
                continue
            if status >= 500 and status not in (502, 503, 504):
                told[f"{path} was answered {status}"] += 1
            if status in (429, 502, 503, 504) and not attempt.get("retry_after"):
                told[f"{path} was answered {status} without Retry-After"] += 1
            if attempt.get("type") != "application/problem+json":
                told[f"{path} was answered {status} as {attempt.get('type')}"] += 1
    for sentence, times in told.items():
        findings.complain("I12", sentence + (f", {times} times" if times > 1 else ""))
