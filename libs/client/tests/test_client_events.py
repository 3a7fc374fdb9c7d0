"""What a module declares and gives, without any transport; its dead letters on disk; its environment."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from faststream.security import BaseSecurity, SASLScram256, SASLScram512

from kgl_client.api import Api
from kgl_client.events import Event, EventModule, HttpEvents, KafkaEvents, Retry, runtime
from kgl_client.events.dead_letters import DeadLetterFile
from kgl_client.events.results import Result, ResultRefused, result_id, results_of
from kgl_client.events.running import kafka_environment, kafka_options
from kgl_client.events.settling import DeadLetter, Incoming, settle
from kgl_contracts.ai import ExtractionRequested
from kgl_contracts.envelope import Envelope
from kgl_contracts.event import EventData, with_example
from kgl_contracts.graph import DocumentIndexed
from kgl_contracts.identity import Ticked
from kgl_contracts.ingest import DocumentParsed
from kgl_contracts.topics import module_topic

CAUSE = Envelope(
    id=UUID(int=7),
    type=DocumentParsed.event_type,
    source="ingest",
    time=datetime(2026, 11, 23, tzinfo=UTC),
    workspace_id=UUID(int=8),
    operation_id=UUID(int=9),
    sequence=3,
    traceparent="00-1-2-01",
)


class Noted(EventData, type="x.noter.document.noted.v1", topic=module_topic("noter"), key="document_id"):
    """A note."""

    model_config = with_example(document_id=str(uuid4()), text="x")

    document_id: UUID
    text: str


def note(text: str = "x") -> Noted:
    return Noted(document_id=UUID(int=1), text=text)


def incoming(envelope: Envelope = CAUSE, value: bytes | None = None) -> Incoming:
    return Incoming(envelope.headers(), value or DocumentParsed.example().model_dump_json().encode())


async def settled(handler: Any, given: Incoming | None = None) -> tuple[Result, ...] | DeadLetter:
    module = EventModule("noter")
    module.on(DocumentParsed)(handler)
    return await settle(module, given or incoming(), Retry(attempts=2, first_pause=0))


class Later(
    EventData,
    type="ingest.document.parsed.v99",
    topic=DocumentParsed.topic,
    key="document_id",
    replaces=DocumentParsed,
):
    """What a later release makes of DocumentParsed."""

    document_id: UUID
    chunks: int

    @classmethod
    def upcast(cls, earlier: DocumentParsed) -> "Later":
        return cls(document_id=earlier.document_id, chunks=earlier.chunk_count)


async def test_a_handler_of_a_later_version_gets_events_of_the_earlier_ones_as_such() -> None:
    seen: list[Later] = []
    module = EventModule("noter")

    @module.on(Later)
    async def keep(event: Event[Later]) -> None:
        seen.append(event.data)

    assert await settle(module, incoming(), Retry()) == ()
    assert seen == [Later.upcast(DocumentParsed.example())]
    with pytest.raises(TypeError, match=r"two handlers for ingest\.document\.parsed\.v1"):
        module.on(DocumentParsed)


async def test_an_event_of_a_version_that_is_not_known_yet_is_kept_as_a_dead_letter() -> None:
    async def never(event: Event[DocumentParsed]) -> None:
        raise AssertionError

    outcome = await settled(never, incoming(CAUSE._replace(type=Later.event_type), b"{}"))
    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, outcome.attempts) == ("unknown_version", 0)


async def test_results_carry_their_cause_and_ids_that_a_repeat_gives_again() -> None:
    async def twice(event: Event[DocumentParsed]) -> list[Noted]:
        return [note(str(uuid4())), note(str(uuid4()))]

    first, second = await settled(twice), await settled(twice)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert [r.envelope for r in first] == [r.envelope for r in second]
    assert [r.envelope.id for r in first] == [result_id("noter", CAUSE.id, Noted.event_type, n) for n in (1, 2)]
    assert [r.value for r in first] != [r.value for r in second]
    envelope = first[0].envelope
    assert (envelope.source, envelope.actor_id, envelope.sequence) == ("noter", "module:noter", None)
    assert (envelope.causation_id, envelope.time) == (CAUSE.id, CAUSE.time)
    assert (envelope.workspace_id, envelope.operation_id, envelope.traceparent) == (
        CAUSE.workspace_id,
        CAUSE.operation_id,
        CAUSE.traceparent,
    )


async def test_a_handler_may_return_one_or_several_or_none_or_yield() -> None:
    async def one(event: Event[DocumentParsed]) -> Noted:
        return note()

    async def none(event: Event[DocumentParsed]) -> None:
        return None

    async def yielding(event: Event[DocumentParsed]) -> AsyncIterator[Noted]:
        yield note()
        yield note()

    counts = []
    for handler in (one, none, yielding):
        outcome = await settled(handler)
        assert isinstance(outcome, tuple)
        counts.append(len(outcome))
    assert counts == [1, 0, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (note("x" * 70_000), "65536 at most"),
        ("no event", "str is no event"),
        (DocumentIndexed.example(), "is not a module's to publish"),
    ],
)
def test_what_cannot_be_a_result_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ResultRefused, match=said):
        results_of("noter", CAUSE, [given])
    with pytest.raises(ResultRefused, match=r"name it x\.other\.\*"):
        results_of("other", CAUSE, [note()])


async def test_a_refused_result_is_a_dead_letter_at_once() -> None:
    calls = 0

    async def large(event: Event[DocumentParsed]) -> Noted:
        nonlocal calls
        calls += 1
        return note("x" * 70_000)

    outcome = await settled(large)
    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, calls) == ("result_refused", 1)


async def test_a_handler_that_fails_once_is_called_again() -> None:
    calls = 0

    async def shaky(event: Event[DocumentParsed]) -> Noted:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("once")
        return note()

    outcome = await settled(shaky)
    assert isinstance(outcome, tuple)
    assert calls == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Incoming({}, b"{}"), "no ce_id"),
        (Incoming(CAUSE.headers() | {"ce_time": "yesterday"}, b"{}"), "malformed"),
        (incoming(value=b'{"document_id": 1}'), "document_id"),
    ],
)
async def test_what_cannot_be_read_is_a_dead_letter_that_says_where(given: Incoming, said: str) -> None:
    async def never(event: Event[DocumentParsed]) -> None:
        raise AssertionError

    outcome = await settled(never, given)
    assert isinstance(outcome, DeadLetter)
    assert (outcome.reason, outcome.attempts) == ("unreadable", 0)
    assert said in outcome.error


def test_a_module_is_refused_what_it_cannot_have() -> None:
    module = EventModule("noter")
    with pytest.raises(TypeError, match="has no handler"):
        _ = module.topics
    with pytest.raises(TypeError, match="is internal"):
        module.on(Ticked)
    module.on(DocumentParsed)(print)
    with pytest.raises(TypeError, match="two handlers"):
        module.on(DocumentParsed)
    module.on(ExtractionRequested)(print)
    assert module.topics == ("kgl.ai", "kgl.documents")
    with pytest.raises(ValueError, match="no name of a module"):
        EventModule("../x")


def test_dead_letters_survive_a_crash_while_they_are_redriven(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "dead.jsonl")
    assert list(file.take()) == []
    dead = DeadLetter("handler_failed", "x", 3)
    for number in range(2):
        file.add({"id": number}, dead)
    taking = file.take()
    assert next(taking) == {"id": 0}
    taking.close()  # the crash
    file.add({"id": 2}, dead)
    with (tmp_path / "dead.jsonl").open("a") as cut_off:
        cut_off.write('{"event": {"id"')
    assert list(file.take()) == [{"id": 0}, {"id": 1}]
    assert list(file.take()) == [{"id": 2}]
    assert list(file.take()) == []


def test_pauses_double_up_to_the_longest() -> None:
    retry = Retry(first_pause=1, longest_pause=4)
    for attempt, longest in ((1, 1), (2, 2), (3, 4), (9, 4)):
        assert all(0 <= retry.pause(attempt) <= longest for _ in range(50))


def test_the_environment_chooses_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    module = EventModule("noter")
    module.on(DocumentParsed)(print)
    with pytest.raises(KeyError, match="KGL_URL"):
        runtime(module)
    monkeypatch.setenv("KGL_URL", "http://test")
    monkeypatch.setenv("KGL_API_KEY", "kgl_1_2")
    assert isinstance(runtime(module), HttpEvents)
    monkeypatch.setenv("KGL_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    assert isinstance(runtime(module), KafkaEvents)


def test_the_environment_says_how_to_log_in_to_the_cluster() -> None:
    assert kafka_options({}).security is None
    login = {"KGL_KAFKA_USER": "noter", "KGL_KAFKA_PASSWORD": "x", "KGL_KAFKA_PREFIX": "test."}
    options = kafka_options(login)
    assert isinstance(options.security, SASLScram512)
    assert (options.security.username, options.security.use_ssl, options.prefix) == ("noter", False, "test.")
    other = kafka_options({**login, "KGL_KAFKA_MECHANISM": "SCRAM-SHA-256", "KGL_KAFKA_TLS": "true"}).security
    assert isinstance(other, SASLScram256)
    assert other.use_ssl
    assert type(kafka_options({"KGL_KAFKA_TLS": "1"}).security) is BaseSecurity
    with pytest.raises(KeyError):
        kafka_options({**login, "KGL_KAFKA_MECHANISM": "GUESS"})


async def test_over_http_results_are_posted_as_cloud_events(tmp_path: Path) -> None:
    module, posted = EventModule("noter"), list[httpx.Request]()

    @module.on(DocumentParsed)
    async def noted(event: Event[DocumentParsed]) -> Noted:
        return note()

    async def take(request: httpx.Request) -> httpx.Response:
        posted.append(request)
        return httpx.Response(202, json={"state": "accepted"})

    async with Api("http://test", "key", transport=httpx.MockTransport(take)) as api:
        events = HttpEvents(module, api, dead_letters=tmp_path / "dead.jsonl")
        event = {name.removeprefix("ce_"): value for name, value in CAUSE.headers().items()}
        await events._settle(event | {"data": DocumentParsed.example().model_dump(mode="json")})
    (request,) = posted
    sent = json.loads(request.content)
    assert (request.url.path, request.headers["kgl-workspace"]) == ("/modules/v1/results", str(CAUSE.workspace_id))
    assert sent["id"] == str(result_id("noter", CAUSE.id, Noted.event_type, 1))
    assert (sent["specversion"], sent["type"], sent["source"]) == ("1.0", Noted.event_type, "noter")
    assert (sent["causationid"], sent["data"]["text"]) == (str(CAUSE.id), "x")
    assert request.headers["idempotency-key"].startswith(sent["id"])


def test_the_example_of_the_readme_is_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    with pytest.raises(KeyError, match="KGL_URL"):  # it gets as far as looking for the system
        exec(example, {})


def test_a_file_of_librdkafka_properties_says_all_that_the_environment_does_not(tmp_path: Path) -> None:
    file = tmp_path / "noter.properties"
    file.write_text(
        "# of the module noter\nbootstrap.servers=broker:9094\nsecurity.protocol=SASL_SSL\n\n"
        "sasl.mechanism=SCRAM-SHA-512\nsasl.username=module-noter\nsasl.password=a=b\ngroup.id=noter\n"
    )
    read = kafka_environment({"KGL_KAFKA_PROPERTIES": str(file), "KGL_KAFKA_BOOTSTRAP": "other:1", "KGL_X": "y"})
    assert (read["KGL_KAFKA_BOOTSTRAP"], read["KGL_KAFKA_USER"], read["KGL_KAFKA_PASSWORD"], read["KGL_X"]) == (
        "other:1",
        "module-noter",
        "a=b",
        "y",
    )
    security = kafka_options(read).security
    assert isinstance(security, SASLScram512)
    assert security.use_ssl
    assert kafka_environment({"KGL_X": "y"}) == {"KGL_X": "y"}
    with pytest.raises(FileNotFoundError):
        kafka_environment({"KGL_KAFKA_PROPERTIES": str(tmp_path / "none")})
