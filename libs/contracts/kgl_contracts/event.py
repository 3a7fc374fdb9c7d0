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
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    topic: ClassVar[Topic]
    key_field: ClassVar[str]
    consumers: ClassVar[tuple[str, ...]]

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
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if type is None or topic is None or key is None:
            return
        if type in REGISTRY:
            raise TypeError(f"event type {type} is declared twice")
        cls.event_type, cls.topic, cls.key_field, cls.consumers = type, topic, key, tuple(consumers)
        REGISTRY[type] = cls

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


def with_example(**values: Any) -> ConfigDict:
    """The model configuration of an event contract with its example."""
    return ConfigDict(frozen=True, extra="ignore", json_schema_extra={"examples": [values]})
