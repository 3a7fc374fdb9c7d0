"""Every event type, and the documents made from it: JSON Schemas and AsyncAPI 3.0."""

from typing import Any, Literal

from kgl_contracts import ai, audit, content, dead_letters, given, graph, identity, ingest, operations, publish
from kgl_contracts.event import REGISTRY, EventData
from kgl_contracts.topics import ALL, MODULE_RESULTS, Topic

_PRODUCERS = (ai, audit, content, dead_letters, given, graph, identity, ingest, operations, publish)


def all_events() -> list[type[EventData]]:
    """Every declared event type, by name."""
    declared = {module.__name__ for module in _PRODUCERS}
    return [REGISTRY[name] for name in sorted(REGISTRY) if REGISTRY[name].__module__ in declared]


def json_schema(
    event: type[EventData], mode: Literal["serialization", "validation"] = "serialization"
) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event's data, as producers write them, or as readers of the model take them."""
    schema = event.model_json_schema(mode=mode)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": event.event_type, **schema}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of all topics: channels, messages, and who sends what."""
    events = all_events()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Knowledge Graph Lab events",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in Kafka binary mode: attributes in ce_ headers, data as JSON.",
        },
        "defaultContentType": "application/json",
        "channels": {_channel_id(topic): _channel(topic, events) for topic in (*ALL, MODULE_RESULTS)},
        "operations": {
            f"send.{event.event_type}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{_channel_id(event.topic)}"},
                "messages": [{"$ref": f"#/channels/{_channel_id(event.topic)}/messages/{event.event_type}"}],
                "summary": f"by {event.producer()}"
                + (f", read by {', '.join(event.consumers)}" if event.consumers else ""),
            }
            for event in events
        },
        "components": {"messages": {event.event_type: _message(event) for event in events}},
    }


def _channel_id(topic: Topic) -> str:
    return "kgl.in" if topic == MODULE_RESULTS else topic.name


def _channel(topic: Topic, events: list[type[EventData]]) -> dict[str, Any]:
    parameters = {"module": {"description": "the module that writes to this topic, and alone does"}}
    return {
        "address": topic.name,
        **({"parameters": parameters} if topic == MODULE_RESULTS else {}),
        "description": ", ".join(
            word
            for word, holds in (
                ("public", topic.public),
                ("internal", not topic.public),
                ("sequenced by key", topic.sequenced),
                ("compacted", topic.compacted),
            )
            if holds
        ),
        "bindings": {"kafka": {"partitions": topic.partitions}},
        "messages": {
            event.event_type: {"$ref": f"#/components/messages/{event.event_type}"}
            for event in events
            if event.topic == topic
        },
    }


def _message(event: type[EventData]) -> dict[str, Any]:
    return {
        "name": event.event_type,
        "summary": (event.__doc__ or "").strip().splitlines()[0],
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./schemas/{event.event_type}.json"},
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": event.key_field}}},
        "examples": [{"payload": event.example().model_dump(mode="json")}],
    }
