"""The checks of the `events` workload: pure functions over the history and what the stores hold.

I1 nothing acknowledged is lost, I2 no effect twice, I3 order by key, I4 no ghost and no zombie, I5 dead letters are
exact, I8 idempotent commands, I12 an honest surface. (I6, I7, I10 and I13 are measured where the fault is made.)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.faults.contract import ITEMS, TAKEN
from tests.faults.events_state import EventsState
from tests.faults.findings import Findings
from tests.faults.history import History, Operation
from tests.faults.surface import check_surface

REASONS = {"raises": "failed", "refuses": "rejected", "hangs": "failed", "kills": "quarantined"}
LONGEST = 10.5
"""Seconds that an answer may take: the deadline of 10, and what the client itself needs on a busy machine."""


def check_events(
    history: History, state: EventsState, *, mended: bool = False, injected: Iterable[str] = ()
) -> Findings:
    """All of them. `mended`: what was dead has been redriven, so that every event has its effect.

    `injected` are the keys of records that came from no command, and that have to be dead letters.
    """
    findings = Findings(events=len(state.written))
    operations = [operation for operation in history.operations() if operation.asked.get("kind") == "command"]
    check_commands(findings, operations, state)
    check_effects(findings, state, mended=mended)
    check_order(findings, state)
    check_ghosts(findings, state)
    check_letters(findings, state, mended=mended, injected=frozenset(injected))
    check_idempotency(findings, history)
    check_surface(findings, operations, LONGEST)
    return findings


def check_commands(findings: Findings, operations: Sequence[Operation], state: EventsState) -> None:
    """I1, I4: an acknowledged command is there, whole; of an unknown one all or nothing; of a refused one nothing."""
    by_command: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for command, item, number, _, _ in state.written:
        by_command[command][item, number] += 1
    acknowledged = set()
    for operation in operations:
        if operation.outcome == "fail":
            findings.complain("I12", f"{operation.op} was refused", operation.answer)
        if operation.outcome != "ok":
            continue
        command = operation.answer["command"]
        acknowledged.add(command)
        items = [each["item"] for each in operation.asked["writes"]]
        told = Counter(zip(items, operation.answer["numbers"], strict=True))
        findings.lost += (told - by_command[command]).total()
        findings.doubled += (by_command[command] - told).total()
    unknown = [o for o in operations if o.outcome == "unknown"]
    strange = by_command.keys() - acknowledged
    if len(strange) > len(unknown):
        findings.complain("I4", f"{len(strange)} commands are written, only {len(unknown)} are unknown")
    sizes = {len(o.asked["writes"]) for o in unknown}
    for command in strange:
        if by_command[command].total() not in sizes:
            findings.complain("I4", "a command is written in part", command)


def check_effects(findings: Findings, state: EventsState, *, mended: bool) -> None:
    """I1, I2: each written event has one effect at each hop, unless it is dead, or waits behind a dead one."""
    counts: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for hop, item, number, _ in state.effects:
        counts[hop][item, number] += 1
    stopped = set() if mended else _stopped(state)
    wanted = {(item, number) for _, item, number, _, _ in state.written} - stopped
    calls = {(item, number) for _, item, number, _, call in state.written if call} - stopped
    for hop, expected in (("taken", wanted), ("followed", wanted), ("called", calls)):
        findings.lost += len(expected - counts[hop].keys())
        findings.doubled += sum(count - 1 for count in counts[hop].values())
    early = counts["taken"].keys() & stopped
    if early:
        findings.complain("I5", f"{len(early)} events that are dead, or behind a dead one, have an effect", min(early))


def _stopped(state: EventsState) -> set[tuple[str, int]]:
    """The events that are held: their key is their item, their sequence its number."""
    return {(key, number) for name, key, number, *_ in state.held if name == "faults.items" and number is not None}


def check_order(findings: Findings, state: EventsState) -> None:
    """I3: sequences of a key are contiguous where they are drawn, and effects come in that order."""
    for topic, key, count, last in state.sequences:
        if count != last:
            findings.out_of_order += 1
            findings.complain("I3", f"{topic} has {count} events of {key}, the last is number {last}")
    last_of: dict[tuple[str, str], int] = defaultdict(int)
    for hop, item, number, sequence in state.effects:
        if hop == "called":
            continue  # jobs have no order
        if number != sequence:
            findings.complain("I3", f"{item}/{number} left as number {sequence} of its key")
        # a repeat is counted as a duplicate, what is missing as lost; here, what comes before what it should follow
        findings.out_of_order += number < last_of[hop, item]
        last_of[hop, item] = max(last_of[hop, item], number)


def check_ghosts(findings: Findings, state: EventsState) -> None:
    """I4: no effect of what was never written, and no row without its event."""
    written = {(item, number) for _, item, number, _, _ in state.written}
    ghosts = {(hop, item, number) for hop, item, number, _ in state.effects if (item, number) not in written}
    if ghosts:
        findings.complain("I4", f"{len(ghosts)} effects are of nothing that was written", min(ghosts))
    events = Counter({(topic, key): count for topic, key, count, _ in state.sequences})
    rows = Counter((ITEMS.name, item) for item, _ in written)
    taken = Counter((TAKEN.name, item) for hop, item, _, _ in state.effects if hop == "taken")
    for what, expected in (("a row", rows), ("an effect", taken)):
        topic = ITEMS.name if what == "a row" else TAKEN.name
        of_topic = Counter({place: count for place, count in events.items() if place[0] == topic})
        if of_topic != expected:
            wrong = (of_topic - expected) + (expected - of_topic)
            findings.complain("I4", f"{wrong.total()} events without {what}, or the reverse", min(wrong))
    if state.pending:
        findings.complain("I1", f"{state.pending} events never left the outbox")


def check_letters(findings: Findings, state: EventsState, *, mended: bool, injected: frozenset[str]) -> None:
    """I5: what is dead is exactly what was poisoned, for what it really was."""
    troubles = {(item, number): trouble for _, item, number, trouble, _ in state.written if trouble in REASONS}
    wanted = set() if mended else set(troubles)
    dead = set()
    for name, key, number, kind, reason, *_ in state.held:
        if kind != "dead":
            if number is not None and reason != "behind":
                findings.complain("I5", f"{name} still tries {key}/{number} ({reason})")
            continue
        if key in injected:
            dead.add((key, 0))
            continue
        place = (key, number or 0)
        dead.add(place)
        if place not in wanted or name != "faults.items":
            findings.wrongly_dead += 1
        elif REASONS[troubles[place]] != reason:
            findings.complain("I5", f"{key}/{number} {troubles[place]}, and is dead because it {reason}")
    missing = (wanted | {(key, 0) for key in injected}) - dead
    if missing:
        findings.complain("I5", f"{len(missing)} poisoned events are no dead letters", min(missing))


def check_idempotency(findings: Findings, history: History) -> None:
    """I8: one key, one outcome; the same answer to the same request, none to another one."""
    for operation in history.operations():
        if operation.outcome == "ok" and operation.answer.get("same") is False:
            findings.complain("I8", f"twins of {operation.op} were answered differently")
    for line in history.lines:
        if line.data.get("kind") == "replay" and not line.data["same"]:
            findings.complain("I8", f"{line.op} was answered differently when it came again", line.data)
        if line.data.get("kind") == "other_body" and line.data["status"] != 422:
            findings.complain("I8", f"the key of {line.op} was taken for another body", line.data)
