"""Events that are broken on purpose."""

from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from pydantic import ValidationError

from kgl_contracts.ingest import DocumentDeleted
from kgl_servicekit.database.cause import Cause
from kgl_servicekit.events.outbox import outgoing
from kgl_servicekit.ids import uuid7
from kgl_servicekit.poison import _from_environment, perhaps_broken, poison


@pytest.fixture
def poisoned() -> Iterator[None]:
    poison(DocumentDeleted.event_type)
    yield
    poison(None)


def sent() -> bytes:
    cause = Cause(id=uuid7(), kind="request", actor="user:a")
    event = DocumentDeleted.example()
    return outgoing(event, uuid7(), cause, datetime.now(UTC), workspace=uuid7(), operation=None).data


def test_an_event_of_the_type_does_not_meet_its_contract_and_keeps_its_key(poisoned: None) -> None:
    data = sent()
    with pytest.raises(ValidationError, match="version"):
        DocumentDeleted.model_validate_json(data)
    assert orjson.loads(data)["document_id"] == DocumentDeleted.example().key


def test_others_and_those_without_a_number_stay_as_they_are(poisoned: None) -> None:
    assert perhaps_broken("another.type.v1", b'{"a": 1}') == b'{"a": 1}'
    assert perhaps_broken(DocumentDeleted.event_type, b'{"a": true}') == b'{"a": true}'


def test_without_poison_nothing_is_broken() -> None:
    assert DocumentDeleted.model_validate_json(sent()) == DocumentDeleted.example()


@pytest.mark.parametrize("environment", [None, "production"])
def test_it_is_refused_in_production(monkeypatch: pytest.MonkeyPatch, environment: str | None) -> None:
    monkeypatch.setenv("KGL_POISON", DocumentDeleted.event_type)
    monkeypatch.delenv("KGL_ENV", raising=False)
    if environment is not None:
        monkeypatch.setenv("KGL_ENV", environment)
    with pytest.raises(ValueError, match="for drills"):
        _from_environment()
    monkeypatch.setenv("KGL_ENV", "development")
    assert _from_environment() == DocumentDeleted.event_type
