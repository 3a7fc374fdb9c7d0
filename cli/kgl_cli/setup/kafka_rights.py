"""Who may do what on Kafka: one table, made from the contracts.

| who | topics | groups |
|---|---|---|
| a service | write what it emits, read what its subscriptions take | `<service>.*`, as subscriptions are named |
| a module | write `kgl.in.<module>` and its dead letters, read these and public topics as granted | its own |

Reading and writing imply describing, which is all that the transport asks for besides: ids, partitions and
offsets of topics. An idempotent producer needs no right on the cluster. Nobody but the administrator makes
topics, users or rights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kgl_contracts.rights import SERVICES, read_by, written_by
from kgl_contracts.topics import MODULE_RESULTS, Topic, dead_letter_topic, module_topic
from kgl_servicekit.settings import NotConfigured


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """What a user may do with a topic or group; with `prefixed` with all whose names begin so."""

    user: str
    operation: Literal["READ", "WRITE"]
    kind: Literal["TOPIC", "GROUP"]
    name: str
    prefixed: bool = False


def user_of_service(service: str, prefix: str) -> str:
    return prefix + service


def user_of_module(module: str, prefix: str) -> str:
    """No module has the user of a service, whatever it is called."""
    return f"{prefix}module-{module}"


def rights_of_service(service: str, prefix: str) -> frozenset[Right]:
    """What one of the five needs, and no more."""
    user = user_of_service(service, prefix)
    reads = {_read(user, prefix, topic) for topic in read_by(service)}
    writes = {Right(user, "WRITE", "TOPIC", prefix + topic.name) for topic in written_by(service)}
    return frozenset({*reads, *writes, Right(user, "READ", "GROUP", f"{prefix}{service}.", prefixed=True)})


def rights_of_module(module: str, topics: Iterable[Topic], prefix: str) -> frozenset[Right]:
    """What a module needs that reads these topics. NotConfigured for a name or topic that it may not have."""
    if module in SERVICES:
        raise NotConfigured(f"{module} is the name of a service; call the module something else")
    try:
        results = module_topic(module)
    except ValueError as wrong:
        raise NotConfigured(str(wrong)) from wrong
    user, dead = user_of_module(module, prefix), prefix + dead_letter_topic(module)
    rights = {
        Right(user, "WRITE", "TOPIC", prefix + results.name),
        Right(user, "WRITE", "TOPIC", dead),
        Right(user, "READ", "TOPIC", dead),  # to redrive
        Right(user, "READ", "GROUP", prefix + module),
        Right(user, "READ", "GROUP", f"{prefix}{module}.", prefixed=True),
    }
    for topic in topics:
        if not topic.public:
            raise NotConfigured(f"{topic.name} is internal; modules read public topics")
        rights.add(Right(user, "READ", "TOPIC", prefix + topic.name))
    return frozenset(rights)


def _read(user: str, prefix: str, topic: Topic) -> Right:
    if topic == MODULE_RESULTS:
        return Right(user, "READ", "TOPIC", prefix + topic.name.partition("{")[0], prefixed=True)
    return Right(user, "READ", "TOPIC", prefix + topic.name)
