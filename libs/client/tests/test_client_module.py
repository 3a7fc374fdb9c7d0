"""A module's loop against a server of our own: it leases, reads, answers, and waits out what is out."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kgl_client.api import Api, ApiProblem, ApiUnreachable
from kgl_client.document import DocumentText
from kgl_client.module import CannotDo, Module
from kgl_contracts.ai import Extraction, Summary

WORKSPACE = uuid4()


class Server:
    """Hands out jobs and notes the answers; `outages` are statuses, or None for no answer, given first.

    `unread` is given first to who asks for a document: a status, or None for an answer that ends too early.
    """

    def __init__(
        self, *capabilities: str, outages: list[int | None] | None = None, unread: list[int | None] | None = None
    ) -> None:
        self.unread = unread or []
        self.jobs = [
            {
                "id": str(uuid4()),
                "token": 7,
                "capability": capability,
                "document_id": str(uuid4()),
                "version": 1,
                "workspace_id": str(WORKSPACE),
                "chunks_url": "/chunks",
            }
            for capability in capabilities
        ]
        self.answers: list[tuple[str, Any, httpx.Headers]] = []
        self.outages = outages or []
        self.answered = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith(":lease"):
            given, self.jobs = self.jobs[:1], self.jobs[1:]
            if not given:
                await asyncio.sleep(0.01)
            return httpx.Response(200, json={"jobs": given})
        if path == "/chunks":
            chunk = {"id": str(uuid4()), "ordinal": 0, "start": 0, "end": 4, "title": "T", "text": "text"}
            if self.unread:
                status = self.unread.pop(0)
                problem = {"code": "unavailable", "detail": "wait"}
                return httpx.Response(status, json=problem) if status else httpx.Response(200, content=cut_off())
            return httpx.Response(200, text=json.dumps(chunk) + "\n")
        if path.endswith("/gazetteer"):
            return httpx.Response(200, json={"items": [{"name": "a", "type": "x"}], "next": None})
        if self.outages:
            status = self.outages.pop(0)
            if status is None:
                raise httpx.ConnectError("out")
            return httpx.Response(status, json={"code": "busy", "detail": "wait"}, headers={"Retry-After": "0"})
        self.answers.append((path.rpartition(":")[2], json.loads(request.content), request.headers))
        self.answered.set()
        return httpx.Response(204)


async def cut_off() -> AsyncIterator[bytes]:
    yield b"{"
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def module(server: Server, *capabilities: str) -> Module:
    api = Api("http://test", "key", transport=httpx.MockTransport(server))
    return Module("tagger", api, capabilities=capabilities, at_once=1)  # type: ignore[arg-type]


async def run_until_answered(made: Module, server: Server) -> None:
    task = asyncio.create_task(made.work())
    try:
        await asyncio.wait_for(server.answered.wait(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_result_is_sent_with_its_token_and_workspace() -> None:
    server = Server("extract")
    made = module(server, "extract")
    known: list[str] = []

    @made.extract
    async def extract(document: DocumentText) -> Extraction:
        known.extend(entity.name for entity in await document.known_entities())
        assert document.chunks[0].text == "text"
        return Extraction()

    await run_until_answered(made, server)
    ((verb, body, headers),) = server.answers
    assert (verb, body["token"], body["extraction"]) == ("complete", 7, {"entities": [], "relations": []})
    assert headers["kgl-workspace"] == str(WORKSPACE)
    assert known == ["a"]


async def test_an_answer_is_repeated_until_it_is_taken() -> None:
    server = Server("summarise", outages=[503, None, 429])
    made = module(server, "summarise")

    @made.summarise
    async def summarise(_: DocumentText) -> Summary:
        return Summary(title="t", text="x")

    await run_until_answered(made, server)
    assert [verb for verb, _, _ in server.answers] == ["complete"]
    assert server.outages == []


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [(CannotDo("too_long", "no"), "too_long", False), (ValueError("x"), "module_error", True)],
)
async def test_a_failure_is_told_with_its_code(error: Exception, code: str, retry: bool) -> None:
    server = Server("extract")
    made = module(server, "extract")

    @made.extract
    async def extract(_: DocumentText) -> Extraction:
        raise error

    await run_until_answered(made, server)
    ((verb, body, _),) = server.answers
    assert (verb, body["code"], body["retry"]) == ("fail", code, retry)


@pytest.mark.parametrize("unread", [503, 502, None])
async def test_a_document_that_cannot_be_read_at_the_moment_is_waited_for_and_is_no_failure(unread: int | None) -> None:
    server = Server("summarise", unread=[unread])
    made = module(server, "summarise")

    @made.summarise
    async def summarise(_: DocumentText) -> Summary:
        return Summary(title="t", text="x")

    await run_until_answered(made, server)
    assert [verb for verb, _, _ in server.answers] == ["complete"]


async def test_a_module_without_a_handler_for_what_it_promises_does_not_start() -> None:
    with pytest.raises(TypeError, match="no handler for summarise"):
        await module(Server(), "summarise").work()


async def test_problems_are_exceptions_with_code_and_members() -> None:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(409, json={"code": "document_duplicate", "detail": "known", "existing": "x"})

    async with Api("http://test", "key", transport=httpx.MockTransport(answer)) as api:
        with pytest.raises(ApiProblem) as problem:
            await api.post("/x", {})
    assert (problem.value.code, problem.value.members["existing"]) == ("document_duplicate", "x")


async def test_a_post_without_a_key_is_never_sent_twice() -> None:
    sent = 0

    async def out(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        raise httpx.ReadError("lost")

    async with Api("http://test", "key", transport=httpx.MockTransport(out)) as api:
        with pytest.raises(ApiUnreachable):
            await api.post("/x", {})
    assert sent == 1


async def test_a_list_is_read_page_by_page() -> None:
    async def pages(request: httpx.Request) -> httpx.Response:
        at = int(request.url.params.get("cursor", "0"))
        return httpx.Response(200, json={"items": [at], "next": str(at + 1) if at < 2 else None})

    async with Api("http://test", "key", transport=httpx.MockTransport(pages)) as api:
        assert [item async for item in api.items("/x")] == [0, 1, 2]
