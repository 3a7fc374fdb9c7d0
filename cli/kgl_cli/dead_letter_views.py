"""How `kgl dead-letters` shows what it found."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

Shown = Mapping[str, Any]
_RAW_LIMIT = 4000
_FACTS = (
    "state",
    "service",
    "subscription",
    "reason",
    "attempts",
    "workspace_id",
    "type",
    "event_id",
    "operation_id",
    "topic",
    "key",
    "sequence",
    "first_at",
    "dead_at",
    "decision",
    "decision_operation",
    "note",
)


def show_letters(console: Console, letters: Sequence[Shown]) -> None:
    """A few lines for each, its id first, so that it can be copied on any width."""
    for each in letters:
        what = f"{each['subscription']}  {each['type'] or 'no readable type'}  {each['reason']}"
        _line(console, f"[bold]{each['id']}[/bold]  {each['state']}  {escape(what)}")
        _line(console, f"    {each['dead_at']}, {each['attempts']} attempts, {_behind(each)}{_corrected(each)}")
        if each["error"]:
            _line(console, f"    {escape(each['error'].splitlines()[0])}")
    _line(console, f"{len(letters)} letters")


def show_counts(console: Console, counts: Sequence[Shown]) -> None:
    """One line for each group."""
    for each in counts:
        named = [str(value) for name, value in each.items() if name not in {"count", "oldest", "newest"} and value]
        _line(console, f"{each['count']:>6}  {escape('  '.join(named))}")


def show_letter(console: Console, letter: Shown) -> None:
    """Everything that is known of one."""
    _line(console, f"[bold]{letter['id']}[/bold]")
    for name in _FACTS:
        if letter[name] is not None:
            _line(console, f"  {name:<20}{escape(str(letter[name]))}")
    _line(console, f"[bold]error[/bold]  {escape(letter['error'] or 'none')}")
    _line(console, "[bold]headers[/bold]")
    for name, value in letter["headers"].items():
        _line(console, f"  {escape(name)}: {escape(value)}")
    _show_data(console, letter)
    _line(console, f"[bold]{_behind(letter)}[/bold]")
    for each in letter["next_waiting"]:
        _line(console, f"  {each['sequence'] or '-'}  {escape(each['type'] or 'no type')}  since {each['since']}")


def _show_data(console: Console, letter: Shown) -> None:
    if letter["withheld"]:
        _line(console, "data withheld: they may hold text of a workspace that is not yours (--break-glass REASON)")
        return
    if letter["payload"] is not None:
        _line(console, "[bold]data[/bold]")
        console.print_json(data=letter["payload"])
    if letter["raw"] is not None:
        raw = base64.b64decode(letter["raw"])
        more = "" if letter["complete"] else f", the first {len(raw)} of them"
        _line(console, f"[bold]raw[/bold]  {letter['size']} bytes{more}")
        _line(console, escape(raw[:_RAW_LIMIT].decode(errors="backslashreplace")))
    if letter["corrected"] is not None:
        _line(console, "[bold]corrected[/bold]  taken by the next try, and by every rebuild")
        console.print_json(data=letter["corrected"])


def _behind(letter: Shown) -> str:
    return f"{letter['waiting']} wait behind it"


def _corrected(letter: Shown) -> str:
    return ", corrected" if letter["is_corrected"] else ""


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
