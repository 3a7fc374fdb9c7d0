"""The gate that refuses a breaking change of an event."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest
from pydantic import Field

from kgl_contracts.catalogue import json_schema
from kgl_contracts.event import EventData
from kgl_contracts.operations import OperationStarted, OperationStartedV1
from kgl_contracts.topics import DOCUMENTS
from tools.compatibility import breaks, committed, main

_NAME = "test.compatibility.checked.v1"


class _Data(EventData):
    """An event without a name of its own: the tests give all of them the same."""

    key_field = "id"
    topic = DOCUMENTS
    event_type = _NAME

    id: UUID


class Before(_Data):
    """As it was committed."""

    text: str
    kind: Literal["a", "b"] = "a"
    count: int = Field(ge=0)


class Added(Before):
    """A field more, with a default."""

    more: int | None = None


class Required(Before):
    """A field more, without one."""

    more: int


class Widened(_Data):
    """A word more in an enumeration."""

    text: str
    kind: Literal["a", "b", "c"] = "a"
    count: int = Field(ge=0)


class Narrowed(_Data):
    """Fewer values."""

    text: str
    kind: Literal["a", "b"] = "a"
    count: int = Field(ge=1)


class Removed(_Data):
    """A field less."""

    kind: Literal["a", "b"] = "a"
    count: int = Field(ge=0)


class Renamed(_Data):
    """A field by another name."""

    words: str
    kind: Literal["a", "b"] = "a"
    count: int = Field(ge=0)


class Retyped(_Data):
    """Another type."""

    text: int
    kind: Literal["a", "b"] = "a"
    count: int = Field(ge=0)


def _committed(event: type[EventData]) -> Mapping[str, str]:
    return {_NAME: json.dumps(json_schema(event))}


@pytest.mark.parametrize("event", [Before, Added])
def test_what_the_release_before_can_read_is_let_through(event: type[EventData]) -> None:
    assert breaks(_committed(Before), {_NAME: event}) == []


@pytest.mark.parametrize("event", [Required, Widened, Narrowed, Removed, Renamed, Retyped])
def test_every_other_change_is_refused(event: type[EventData]) -> None:
    (sentence,) = breaks(_committed(Before), {_NAME: event})
    assert sentence.startswith(_NAME)
    assert "declare a new version" in sentence


def test_a_type_cannot_be_taken_away_while_topics_hold_its_events() -> None:
    (sentence,) = breaks(_committed(Before), {})
    assert "is gone" in sentence


def test_where_nothing_was_committed_nothing_is_compared(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert committed("HEAD", tmp_path) == {}


def test_an_operation_of_the_first_version_is_about_a_document() -> None:
    earlier = OperationStartedV1.example()
    read = OperationStarted.read(OperationStartedV1, earlier.model_dump_json().encode())
    assert (read.subject.type, str(read.subject.id)) == ("document", earlier.subject)
    assert read.model_dump(exclude={"subject"}) == earlier.model_dump(exclude={"subject"})


def test_a_revision_to_compare_with_has_to_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGL_CONTRACTS_BASE", "no-such-revision")
    assert main() == 1
