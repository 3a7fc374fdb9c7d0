"""What `kgl dead-letters` asks of the API, and what is meant by its arguments."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from kgl_cli.asking import Refused
from kgl_client.api import Api, ApiProblem
from kgl_servicekit.ids import uuid7

BASE = "/dead-letters/v1"
_ALIASES = {"operation": "operation_id", "workspace": "workspace_id", "since": "dead_at_gte", "until": "dead_at_lt"}
FILTERS = ("service", "subscription", "topic", "type", "reason", "error", "key", "state", *_ALIASES)
_WAIT = 30.0
_PAUSE = 0.5
_ENDED = frozenset({"done", "superseded", "skipped", "failed", "cancelled"})
_MOST = 400  # letters of one decision
_AT_ONCE = 50
_SHOWN = 5


def filter_of(which: Sequence[str] | None) -> dict[str, str]:
    """What name=value says. Raises Refused."""
    found = {}
    for each in which or ():
        name, equals, value = each.partition("=")
        if not equals or name not in FILTERS:
            raise Refused(f"{each} is none of these: {', '.join(f'{name}=...' for name in FILTERS)}")
        found[_ALIASES.get(name, name)] = value
    return found


def ids_of(which: Sequence[str] | None) -> list[str]:
    """The ids, if that is what was given."""
    try:
        return [str(UUID(each)) for each in which or ()]
    except ValueError:
        return []


def json_of(text: bytes, place: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as wrong:
        raise Refused(f"{place} is no JSON: {wrong}") from wrong


def change_of(text: str) -> tuple[list[str], Any]:
    """The place and the value of path=value; what is no JSON is a text."""
    path, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"{text} is not path=value, such as version=1")
    try:
        return path.split("."), orjson.loads(value)
    except ValueError:
        return path.split("."), value


def changed(data: Any, changes: Sequence[tuple[Sequence[str], Any]]) -> Any:
    """The data with these changes. Raises Refused where they have no such place."""
    for path, value in changes:
        place = data
        for name in path[:-1]:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise Refused(f"the data have no {'.'.join(path)}; give them whole by --payload FILE")
        place[path[-1]] = value
    return data


async def chosen_letters(api: Api, which: Sequence[str] | None, **more: Any) -> AsyncIterator[Mapping[str, Any]]:
    if ids := ids_of(which):
        for id in ids:
            yield await api.get(f"{BASE}/{id}")
        return
    asked: dict[str, Any] = {**more, **filter_of(which)}
    found = [letter async for letter in api.items(BASE, **asked)]
    for letter in found:  # a list that is decided about while it is read has other pages
        yield letter


async def dead_ones(api: Api, which: Sequence[str] | None) -> list[str]:
    """The ids of the dead letters that are meant, the oldest first. Raises Refused when name=value fits none."""
    if ids := ids_of(which):
        return ids
    found = [letter["id"] async for letter in chosen_letters(api, which, state="dead")][::-1]
    if which and not found:
        counts = (await api.get(f"{BASE}/counts", params={"state": "dead", "by": ["subscription"]}))["items"]
        there = ", ".join(f"{each['count']} of {each['subscription']}" for each in counts)
        raise Refused(f"no dead letter is like this: {' '.join(which)}; there are {there or 'none'}")
    return found


async def exported(api: Api, ids: Sequence[str]) -> AsyncIterator[Mapping[str, Any]]:
    """These letters with their data, without those that went meanwhile."""
    for first in range(0, len(ids), _AT_ONCE):
        try:
            answer = await api.post(f"{BASE}:export", {"ids": ids[first : first + _AT_ONCE]})
        except ApiProblem as problem:
            if problem.code != "dead_letter_not_found":
                raise
        else:
            for letter in answer["items"]:
                yield letter


async def decide(api: Api, letter: str, act: str, body: Any) -> Any:
    return await api.post(f"{BASE}/{letter}:{act}", body, repeat_key=str(uuid7()))


async def decide_all(
    api: Api, which: Sequence[str] | None, act: str, body: Mapping[str, Any], *, everything: bool
) -> tuple[list[Any], list[str]]:
    """The receipts of a decision about letters by id, or by what they have in common, the oldest first.

    And the ids of those that it was not made about: they are dead no more, or decided about already.
    """
    if not which and not everything:
        raise Refused("say which: ids, name=value, or --all")
    ids = await dead_ones(api, which)
    if len(ids) == 1:
        return [await decide(api, ids[0], act, body or None)], []
    receipts, left = [], []
    for first in range(0, len(ids), _MOST):
        asked = ids[first : first + _MOST]
        taken: set[str] = set()
        try:
            made = await api.post(f"{BASE}:{act}", {**body, "filter": {"ids": asked}}, repeat_key=str(uuid7()))
        except ApiProblem as problem:
            if problem.code != "dead_letter_not_found":
                raise
        else:
            receipts.append(made["receipt"])
            taken = {stage["name"].rpartition(".")[2] for stage in made["receipt"]["stages"]}
        left += [id for id in asked if id not in taken]
    return receipts, left


async def ended(api: Api, receipt: Mapping[str, Any], tell: Callable[[str], None]) -> Any:
    """The receipt when all its stages have ended; as a whole it is failed with the first that is.

    After 30 s it is told once what it waits for.
    """
    until: float | None = time.monotonic() + _WAIT
    while True:
        shown = await api.get(f"/operations/v1/{receipt['id']}", params={"wait": _WAIT})
        if all(stage["state"] in _ENDED for stage in shown["stages"]):
            return shown
        if until is not None and time.monotonic() >= until:
            until = None
            tell(_waits(shown))
        await asyncio.sleep(_PAUSE)


def _waits(receipt: Mapping[str, Any]) -> str:
    """What is open, and who has to do it: a stage begins with the name of its service."""
    names = [stage["name"] for stage in receipt["stages"] if stage["state"] not in _ENDED]
    more = f" and {len(names) - _SHOWN} others" if len(names) > _SHOWN else ""
    services = " and ".join(sorted({name.partition(".")[0] for name in names}))
    return (
        f"{', '.join(names[:_SHOWN])}{more}: waits for a worker of {services} (kgl doctor says what is wrong there). "
        f"It goes on without this command: leave it by Ctrl-C, GET /operations/v1/{receipt['id']} tells how it ended."
    )
