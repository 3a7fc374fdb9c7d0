"""I12, over what clients were answered: what cannot be done is told as a problem, with when to come again, in time."""

from collections import Counter
from collections.abc import Sequence

from tests.faults.findings import Findings
from tests.faults.history import Operation

_COME_AGAIN = (429, 502, 503, 504)


def check_surface(findings: Findings, operations: Sequence[Operation], longest: float) -> None:
    """Every attempt of these operations; `longest` is how many seconds an answer may take."""
    told: Counter[str] = Counter()
    for operation in operations:
        what = operation.asked.get("page") or operation.asked.get("kind")
        for attempt in operation.attempts:
            status = attempt.get("status")
            if attempt["seconds"] > longest or attempt.get("error") == "ReadTimeout":
                told[f"{what} had no answer for {attempt['seconds']:.0f} s"] += 1
            if status is None or status < 400:
                continue
            if status >= 500 and status not in _COME_AGAIN:
                told[f"{what} was answered {status}"] += 1
            if status in _COME_AGAIN and not attempt.get("retry_after"):
                told[f"{what} was answered {status} without Retry-After"] += 1
            if attempt.get("type") != "application/problem+json":
                told[f"{what} was answered {status} as {attempt.get('type')}"] += 1
    for sentence, times in told.items():
        findings.complain("I12", sentence + (f", {times} times" if times > 1 else ""))
