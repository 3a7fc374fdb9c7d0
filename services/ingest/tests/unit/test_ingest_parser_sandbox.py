"""Parsers that hang, crash, lie and eat memory harm nobody but their own document."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing import formats
from kgl_ingest.parsing.answers import ParsedDocument
from kgl_ingest.parsing.chunks import chunk_lines
from kgl_ingest.parsing.limits import ChildLimits
from kgl_ingest.parsing.parsed_text import ParseFailed, ParserUnavailable
from kgl_ingest.parsing.sandbox import ParserSandbox
from kgl_ingest.parsing.testing import pdf_of
from kgl_servicekit.testing.polling import eventually

DOCUMENT = UUID("0195d6a0-0000-7000-8000-000000000001")
HOSTILE = (sys.executable, str(Path(__file__).with_name("hostile_child.py")))
DEADLINE_S = 20.0


@asynccontextmanager
async def sandbox(**options: Any) -> AsyncIterator[ParserSandbox]:
    opened = ParserSandbox(**options)
    try:
        yield opened
    finally:
        await opened.close()


def hostile(**options: Any) -> Any:
    return sandbox(**{"command": HOSTILE, "children": 1} | options)


async def tell(parsers: ParserSandbox, order: str, timeout_s: float = DEADLINE_S) -> str:
    parsed = await parsers.parse(order.encode(), MediaType.PLAIN, DOCUMENT, 1, timeout_s)
    return parsed.text.decode()


async def failure(parsers: ParserSandbox, order: str, timeout_s: float = DEADLINE_S) -> ParseFailed:
    with pytest.raises(ParseFailed) as failed:
        await tell(parsers, order, timeout_s)
    return failed.value


def text_of(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def pid_in(file: Path) -> int:
    async def read() -> str:
        return text_of(file)

    return int(await eventually(read, within=DEADLINE_S))


async def is_gone(pid: int) -> bool:
    status = text_of(Path(f"/proc/{pid}/status"))
    return not status or "State:\tZ" in status


# what it answers


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        ("Grüße\n".encode() * 500, MediaType.PLAIN),
        (b"# Title\n\ntext", MediaType.MARKDOWN),
        (b"Title\n=====\n\ntext", MediaType.RESTRUCTURED_TEXT),
        (b"<html lang='en'><title>Title</title><p>text", MediaType.HTML),
        (pdf_of("text", title="Title"), MediaType.PDF),
    ],
)
async def test_a_child_gives_what_the_parser_gives(content: bytes, media_type: MediaType) -> None:
    parsed = formats.parse(content, media_type)
    lines = list(chunk_lines(DOCUMENT, 7, parsed))
    async with sandbox(children=1) as parsers:
        assert await parsers.parse(content, media_type, DOCUMENT, 7) == ParsedDocument(
            title=parsed.title,
            language=parsed.language,
            chunk_count=len(lines),
            text_length=len(parsed.text),
            sha256=hashlib.sha256(b"".join(lines)).hexdigest(),
            chunks=b"".join(lines),
            text=parsed.text.encode(),
        )


async def test_the_declared_charset_reaches_the_parser() -> None:
    async with sandbox(children=1) as parsers:
        content = "Grüße".encode("latin-1")
        parsed = await parsers.parse(content, MediaType.PLAIN, DOCUMENT, 1, charset="iso-8859-1")
        assert parsed.text.decode() == "Grüße"


@pytest.mark.parametrize(
    ("given", "shown"), [("Given\r\n title", "Given title"), ("x" * 500, "x" * 199 + "…"), (" ", "Own"), (None, "Own")]
)
async def test_a_given_title_replaces_the_document_s_own(given: str | None, shown: str) -> None:
    async with sandbox(children=1) as parsers:
        parsed = await parsers.parse(b"# Own\n\ntext", MediaType.MARKDOWN, DOCUMENT, 1, title=given)
    assert parsed.title == shown
    assert orjson.loads(parsed.chunks.splitlines()[0])["title"] == shown


async def test_what_the_parser_finds_wrong_is_told_and_the_child_goes_on() -> None:
    async with hostile() as parsers:
        pid = await tell(parsers, "say_pid")
        failed = await failure(parsers, "refuse")
        assert (failed.code, failed.sentence) == ("no_text", "Nothing here.")
        assert (await failure(parsers, "raise_bug")).code == "unreadable"
        assert await tell(parsers, "say_pid") == pid


async def test_children_work_side_by_side(tmp_path: Path) -> None:
    async with hostile(children=2) as parsers:
        order = f"meet {tmp_path}"
        assert set(await asyncio.gather(tell(parsers, order), tell(parsers, order))) == {"met"}


async def test_a_child_is_replaced_after_its_documents() -> None:
    async with hostile(limits=ChildLimits(documents=2)) as parsers:
        first, second, third = [await tell(parsers, "say_pid") for _ in range(3)]
        assert first == second != third
        assert await is_gone(int(first))


async def test_what_a_library_prints_does_not_disturb_the_answers() -> None:
    async with hostile() as parsers:
        assert await tell(parsers, "chatter") == "heard ''"
        assert await tell(parsers, "chatter") == "heard ''"


async def test_a_child_sees_no_environment_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_CANARY_SECRET", "x")
    async with hostile() as parsers:
        names = set((await tell(parsers, "environment")).split())
    assert names - {"LC_CTYPE"} <= {"PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONHASHSEED", "MALLOC_ARENA_MAX"}


# what it survives


async def test_an_endless_parser_is_killed_and_the_next_document_is_parsed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    async with hostile() as parsers:
        assert (await failure(parsers, f"hang {pid_file}", timeout_s=1.0)).code == "parser_timeout"
        assert await is_gone(await pid_in(pid_file))
        assert await tell(parsers, "say_pid") != pid_file.read_text()


async def test_a_document_that_is_endless_for_the_real_parsers_is_killed() -> None:
    unordered_marks = ("a" + "\u0301\u0316" * 200_000).encode()
    async with sandbox(children=1) as parsers:
        with pytest.raises(ParseFailed) as failed:
            await parsers.parse(unordered_marks, MediaType.PLAIN, DOCUMENT, 1, 0.5)
        assert failed.value.code == "parser_timeout"
        assert (await parsers.parse(b"fine", MediaType.PLAIN, DOCUMENT, 1)).text == b"fine"


async def test_processor_time_is_limited_for_each_document_not_for_all_together() -> None:
    async with hostile(limits=ChildLimits(cpu_seconds=1)) as parsers:
        pids = {await tell(parsers, "burn 0.6") for _ in range(3)}
        assert len(pids) == 1
        failed = await failure(parsers, "spin")
        assert (failed.code, "1 s" in failed.sentence) == ("parser_timeout", True)


async def test_a_parser_that_eats_memory_dies_and_the_next_document_is_parsed() -> None:
    async with hostile(limits=ChildLimits(memory_bytes=256 << 20)) as parsers:
        failed = await failure(parsers, "grab")
        assert (failed.code, "256 MiB" in failed.sentence) == ("parser_died", True)
        assert await tell(parsers, "say_pid")


async def test_a_document_too_large_for_the_real_parsers_dies_of_memory() -> None:
    async with sandbox(children=1, limits=ChildLimits(memory_bytes=192 << 20)) as parsers:
        with pytest.raises(ParseFailed) as failed:
            await parsers.parse(b"word " * (24 << 20), MediaType.PLAIN, DOCUMENT, 1)
        assert failed.value.code == "parser_died"
        assert (await parsers.parse(b"fine", MediaType.PLAIN, DOCUMENT, 1)).text == b"fine"


@pytest.mark.parametrize(
    ("order", "said"), [("crash", "signal 11"), ("leave 9", "status 9"), ("leave 0", "status 0"), ("lie", "signal 9")]
)
async def test_a_child_that_ends_or_lies_fails_its_document_alone(order: str, said: str) -> None:
    async with hostile() as parsers:
        failed = await failure(parsers, order)
        assert (failed.code, said in failed.sentence) == ("parser_died", True)
        assert await tell(parsers, "say_pid")


async def test_kill_9_of_a_child_fails_its_document_alone(tmp_path: Path) -> None:
    async with hostile() as parsers:
        parse = asyncio.ensure_future(failure(parsers, f"hang {tmp_path / 'pid'}"))
        os.kill(await pid_in(tmp_path / "pid"), signal.SIGKILL)
        assert (await parse).code == "parser_died"
        assert await tell(parsers, "say_pid")


async def test_the_death_of_an_idle_child_costs_no_document() -> None:
    async with hostile() as parsers:
        first = await tell(parsers, "say_pid")
        os.kill(int(first), signal.SIGKILL)
        assert await tell(parsers, "say_pid") != first


async def test_an_answer_past_its_limit_is_not_taken_in() -> None:
    async with hostile(answer_bytes=100_000) as parsers:
        assert (await failure(parsers, "flood 200000")).code == "parser_died"
        assert len(await tell(parsers, "flood 10000")) == 10_000


async def test_cancelling_the_caller_kills_the_child(tmp_path: Path) -> None:
    async with hostile() as parsers:
        parse = asyncio.ensure_future(tell(parsers, f"hang {tmp_path / 'pid'}"))
        pid = await pid_in(tmp_path / "pid")
        parse.cancel()
        with pytest.raises(asyncio.CancelledError):
            await parse
        assert await is_gone(pid)
        assert await tell(parsers, "say_pid") != str(pid)


async def test_closing_kills_idle_and_busy_children_and_blames_no_document(tmp_path: Path) -> None:
    async with hostile(children=2) as parsers:
        busy = asyncio.ensure_future(tell(parsers, f"hang {tmp_path / 'pid'}"))
        pids = [await pid_in(tmp_path / "pid"), int(await tell(parsers, "say_pid"))]
        await parsers.close()
        with pytest.raises(ParserUnavailable):
            await busy
        with pytest.raises(ParserUnavailable):
            await tell(parsers, "say_pid")
        assert [await is_gone(pid) for pid in pids] == [True, True]


@pytest.mark.parametrize(
    "command",
    [("/no/such/program",), (sys.executable, "-c", ""), (sys.executable, "-c", "import sys; sys.stdin.read()")],
)
async def test_parsers_that_cannot_be_started_are_unavailable_and_blame_no_document(command: tuple[str, ...]) -> None:
    async with hostile(command=command, start_timeout_s=0.5) as parsers:
        for _ in range(2):
            with pytest.raises(ParserUnavailable):
                await tell(parsers, "say_pid")


PARENT = """
import asyncio, sys, uuid
from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.sandbox import ParserSandbox

async def main(child, *orders):
    parsers = ParserSandbox(children=1, command=(sys.executable, child))
    for order in orders:
        parsed = await parsers.parse(order.encode(), MediaType.PLAIN, uuid.uuid4(), 1)
        print(parsed.text.decode(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("busy", [True, False])
async def test_children_end_with_a_parent_that_is_killed(busy: bool, tmp_path: Path) -> None:
    orders = ["say_pid", f"hang {tmp_path / 'pid'}"] if busy else ["say_pid"]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, HOSTILE[1], *orders, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout
    pid = int(await parent.stdout.readline())
    if busy:
        assert await pid_in(tmp_path / "pid") == pid
    assert not await is_gone(pid)
    parent.kill()
    await parent.wait()
    assert await eventually(partial(is_gone, pid), within=DEADLINE_S)


async def test_chunks_from_two_children_are_the_same_bytes() -> None:
    page = "<html><body>" + "<p>Graphs join what documents only mention.</p>" * 50 + "</body></html>"
    async with sandbox(children=1) as one, sandbox(children=1) as other:
        first, second = [await s.parse(page.encode(), MediaType.HTML, DOCUMENT, 1) for s in (one, other)]
    assert first == second
    assert orjson.loads(first.chunks.splitlines()[0])["ordinal"] == 0
