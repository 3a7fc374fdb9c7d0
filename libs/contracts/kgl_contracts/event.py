"""What every event contract has: a type, a topic, a key, a producer and an example."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from kgl_contracts.topics import Topic

REGISTRY: dict[str, type["EventData"]] = {}


class EventData(BaseModel):
    """Data of one event type and version; immutable, and additive within its version.

    Subclasses name themselves in their class line:
    `class DocumentParsed(EventData, type="ingest.document.parsed.v1", topic=DOCUMENTS, key="document_id")`.
    Readers ignore fields that they do not know, so that a producer may add one.

    What cannot be added becomes a new version: a class of its own with `replaces=` the earlier one, and `upcast`.
    Producers emit the newest; readers declare the newest, and get events of all versions as such.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    topic: ClassVar[Topic]
    key_field: ClassVar[str]
    consumers: ClassVar[tuple[str, ...]]
    replaces: ClassVar[type["EventData"] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # pydantic takes the class keywords in __pydantic_init_subclass__; object.__init_subclass__ takes none
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        type: str | None = None,
        topic: Topic | None = None,
        key: str | None = None,
        consumers: Iterable[str] = (),
        replaces: "_AnyVersion" = None,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if type is None or topic is None or key is None:
            return
        if type in REGISTRY:
            raise TypeError(f"event type {type} is declared twice")
        cls.event_type, cls.topic, cls.key_field, cls.consumers = type, topic, key, tuple(consumers)
        cls.replaces = replaces
        if replaces is not None and not _follows(cls, replaces):
            raise TypeError(f"{type} does not follow {replaces.event_type}: not the same name, topic and key")
        REGISTRY[type] = cls

    @classmethod
    def versions(cls) -> "tuple[type[EventData], ...]":
        """This version and those that it replaces, newest first."""
        return (cls, *(cls.replaces.versions() if cls.replaces is not None else ()))

    @classmethod
    def upcast(cls, earlier: Any) -> Self:
        """This version of what an event of the version that this one replaces said."""
        raise NotImplementedError(f"{cls.__name__} replaces {earlier.event_type} and has no upcast")

    @classmethod
    def read(cls, version: type["EventData"], value: bytes) -> Self:
        """JSON data of one of `versions()`, as this one. Raises pydantic's ValidationError."""
        if version is cls or cls.replaces is None:
            return cls.model_validate_json(value)
        return cls.upcast(cls.replaces.read(version, value))

    @property
    def key(self) -> str:
        """The aggregate id that orders this event."""
        return str(getattr(self, self.key_field))

    @classmethod
    def producer(cls) -> str:
        """The domain that emits this type: the first word of its name."""
        return cls.event_type.split(".", 1)[0]

    @classmethod
    def example(cls) -> Self:
        """The first example of the contract, validated."""
        examples = cls.model_config.get("json_schema_extra")
        if not isinstance(examples, dict) or not examples.get("examples"):
            raise TypeError(f"{cls.__name__} has no example")
        values = examples["examples"]
        assert isinstance(values, list)
        return cls.model_validate(values[0])


_AnyVersion = type[EventData] | None


def name_and_version(event_type: str) -> tuple[str, int]:
    """`content.item.published.v1` is ("content.item.published", 1); without a version it is 0."""
    name, _, version = event_type.rpartition(".v")
    return (name, int(version)) if version.isdecimal() else (event_type, 0)


def _follows(new: type[EventData], old: type[EventData]) -> bool:
    (name, number), (old_name, old_number) = name_and_version(new.event_type), name_and_version(old.event_type)
    return name == old_name and number > old_number and (new.topic, new.key_field) == (old.topic, old.key_field)


def with_example(**values: Any) -> ConfigDict:
    """The model configuration of an event contract with its example."""
    return ConfigDict(frozen=True, extra="ignore", json_schema_extra={"examples": [values]})
