"""`kgl dead-letters`: events that no service could handle. Found, read, fixed and tried again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer
from rich.console import Console

from kgl_cli.asking import Refused, Target, ask
from kgl_cli.dead_letter_requests import (
    BASE,
    FILTERS,
    change_of,
    changed,
    chosen_letters,
    dead_ones,
    decide,
    decide_all,
    ended,
    exported,
    filter_of,
    json_of,
)
from kgl_cli.dead_letter_views import show_counts, show_letter, show_letters
from kgl_client.api import Api, ApiProblem, ApiUnreachable

dead_letters = typer.Typer(
    help="Events that no service could handle: find, read, fix, try again.", no_args_is_help=True
)
console = Console()

_GIVEN_UP = (
    "What their source still says differs from now on: kgl drift finds it, and kgl drift --repair or a rebuild"
    " brings their effect after all."
)

Which = Annotated[
    list[str] | None,
    typer.Argument(help=f"ids of letters, or name=value of all that are meant; names: {', '.join(FILTERS)}"),
]
_GONE = frozenset({"dead_letter_not_found", "dead_letter_not_dead", "decision_under_way"})


@dead_letters.command("list")
def list_letters(which: Which = None, target: Target = None) -> None:
    """List letters, those that died last first: `kgl dead-letters list operation=<receipt>`."""

    async def work(api: Api) -> int:
        show_letters(console, [letter async for letter in chosen_letters(api, which)])
        return 0

    ask(work, target)


@dead_letters.command()
def count(
    which: Which = None,
    by: Annotated[
        list[str] | None, typer.Option(help="service, subscription, topic, type, reason, error, workspace_id or day")
    ] = None,
    target: Target = None,
) -> None:
    """Count letters by what they have in common."""

    async def work(api: Api) -> int:
        params = {**filter_of(which), **({"by": by} if by else {})}
        show_counts(console, (await api.get(f"{BASE}/counts", params=params))["items"])
        return 0

    ask(work, target)


@dead_letters.command()
def show(
    letter: UUID,
    break_glass: Annotated[
        str | None, typer.Option(help="why you read what may hold text of a workspace of others; it is told there")
    ] = None,
    target: Target = None,
) -> None:
    """Show one letter: headers, data, error, attempts, and what waits behind it."""

    async def work(api: Api) -> int:
        if break_glass is None:
            found = await api.get(f"{BASE}/{letter}")
        else:
            found = await api.post(f"{BASE}/{letter}:break-glass", {"reason": break_glass})
        show_letter(console, found)
        return 0

    ask(work, target)


@dead_letters.command()
def correct(
    which: Which = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as version=1; repeatable")] = None,
    payload: Annotated[Path | None, typer.Option(help="a JSON file with the whole data of one letter")] = None,
    target: Target = None,
) -> None:
    """Put other data beside those that came, for the next try."""

    async def work(api: Api) -> int:
        given = None if payload is None else json_of(payload.read_bytes(), str(payload))
        changes = [change_of(each) for each in set_ or ()]
        if (given is None) == (not changes):
            raise Refused("say what is right: --set path=value, or --payload FILE")
        letters = await dead_ones(api, which)
        if given is not None and len(letters) != 1:
            raise Refused("one file is the data of one letter; name it by its id")
        receipts = []
        for letter in letters:
            known = await api.get(f"{BASE}/{letter}")
            data = given if given is not None else changed(known["corrected"] or known["payload"], changes)
            receipts.append(await decide(api, letter, "correct", {"payload": data}))
        return await _told(api, receipts, "corrected")

    ask(work, target)


@dead_letters.command()
def redrive(
    which: Which = None,
    everything: Annotated[bool, typer.Option("--all", help="every dead letter that you may see")] = False,
    wait: Annotated[bool, typer.Option(help="until each is handled, or dead again")] = True,
    target: Target = None,
) -> None:
    """Try letters again, each for its subscription alone; what waits behind them follows in order."""

    async def work(api: Api) -> int:
        receipts, left = await decide_all(api, which, "redrive", {}, everything=everything)
        return await _told(api, receipts, "handled", left=left, wait=wait)

    ask(work, target)


@dead_letters.command()
def discard(
    which: Which = None,
    reason: Annotated[str, typer.Option(help="why; it is kept in the audit log")] = "",
    everything: Annotated[bool, typer.Option("--all", help="every dead letter that you may see")] = False,
    target: Target = None,
) -> None:
    """Give letters up: they have no effect, and what waits behind them goes on.

    Their source still says what they told: `kgl drift` finds what differs from it, and its --repair undoes this.
    """

    async def work(api: Api) -> int:
        if not reason.strip():
            raise Refused("say why: --reason '...'")
        receipts, left = await decide_all(api, which, "discard", {"reason": reason}, everything=everything)
        status = await _told(api, receipts, "given up", left=left)
        if receipts:
            console.print(_GIVEN_UP, soft_wrap=True)
        return status

    ask(work, target)


@dead_letters.command("export")
def export_letters(file: Path, which: Which = None, target: Target = None) -> None:
    """Write letters with their data to a file, one JSON object a line; the audit log says that you did."""

    async def work(api: Api) -> int:
        count = 0
        with file.open("wb") as lines:
            async for letter in exported(api, [letter["id"] async for letter in chosen_letters(api, which)]):
                lines.write(orjson.dumps(letter) + b"\n")
                count += 1
        console.print(f"{count} letters in {file}; change `payload` there, and import it")
        return 0

    ask(work, target)


@dead_letters.command("import")
def import_letters(file: Path, target: Target = None) -> None:
    """Correct letters by an exported file: each whose `payload` was changed there. Those that are gone are left out."""

    async def work(api: Api) -> int:
        receipts: list[Any] = []
        gone = 0
        for number, line in enumerate(_lines_of(file), 1):
            try:
                receipt = await _corrected_by(api, line, f"{file}, line {number}")
            except (ApiProblem, ApiUnreachable, Refused) as stop:
                if not isinstance(stop, ApiProblem) or stop.code not in _GONE:
                    console.print(f"{len(receipts)} corrected before line {number}, at which it stops; import it again")
                    raise
                gone += 1
            else:
                receipts += [] if receipt is None else [receipt]
        if gone:
            console.print(f"{gone} are not dead any more, or decided about already")
        return await _told(api, receipts, "corrected")

    ask(work, target)


def _lines_of(file: Path) -> Sequence[bytes]:
    return file.read_bytes().splitlines()


async def _corrected_by(api: Api, line: bytes, place: str) -> Any:
    """The receipt of what an exported letter was changed to; None if it was not. Raises Refused."""
    wanted = json_of(line, place)
    try:
        known = await api.get(f"{BASE}/{UUID(wanted['id'])}")
        data = wanted["payload"] if wanted["payload"] != known["payload"] else wanted["corrected"]
    except (KeyError, TypeError, ValueError) as wrong:
        raise Refused(f"{place} is no exported letter") from wrong
    if data is None or data == known["corrected"]:
        return None
    return await decide(api, known["id"], "correct", {"payload": data})


async def _told(api: Api, receipts: Sequence[Any], word: str, *, left: Sequence[str] = (), wait: bool = True) -> int:
    """Wait for what was decided, and say how each letter ended; 1 if any of them otherwise than done."""
    if wait:
        all_ended = [
            await ended(api, receipt, lambda line: console.print(line, soft_wrap=True)) for receipt in receipts
        ]
        stages = [stage for receipt in all_ended for stage in receipt["stages"]]
        others = [
            f"{stage['name']}: {stage['error'] or stage['state']}" for stage in stages if stage["state"] != "done"
        ]
        others += [f"{id}: dead no more, or decided about already" for id in left]
        done = len(stages) + len(left) - len(others)
        console.print(f"{done} {word}" + (f", {len(others)} not" if others else ""))
    else:
        for receipt in receipts:
            console.print(f"receipt {receipt['id']}")
        others = [f"{id}: dead no more, or decided about already" for id in left]
    for each in others:
        console.print(f"  {each}", soft_wrap=True)
    return 1 if others else 0
