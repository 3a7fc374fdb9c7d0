"""The declared topics: `deploy/kafka/topics.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kgl_servicekit.settings import NotConfigured

TOPICS = Path("deploy/kafka/topics.yaml")
_MODULE = "{module}"
Config = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTopic:
    """A topic as it shall be in a cluster; of its settings those that are declared."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class _Topic(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    partitions: int = Field(ge=1)
    config: Config = {}

    @field_validator("config", mode="before")
    @classmethod
    def _kafka_words(cls, given: object) -> object:
        return _words(given)


class Topics(BaseModel):
    """The file, as it stands. Settings are Kafka's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replication: dict[int, Config]
    every: Config
    topics: dict[str, _Topic]
    modules: dict[str, _Topic]

    @field_validator("every", mode="before")
    @classmethod
    def _kafka_words(cls, given: object) -> object:
        return _words(given)

    @field_validator("replication", mode="before")
    @classmethod
    def _kafka_words_of_each(cls, given: object) -> object:
        return {key: _words(value) for key, value in given.items()} if isinstance(given, dict) else given

    @classmethod
    def read(cls, path: Path) -> "Topics":
        """Raises NotConfigured with the path and what is wrong there."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except OSError as missing:
            raise NotConfigured(
                f"The topics' file {path} cannot be read ({missing.strerror}); run this in the project's folder, "
                "or name it by KGL_KAFKA_TOPICS."
            ) from missing
        except (yaml.YAMLError, ValidationError) as wrong:
            raise NotConfigured(f"The topics' file {path} is wrong: {' '.join(str(wrong).split())}") from wrong

    def of_services(self, prefix: str, replication: int) -> list[DeclaredTopic]:
        """The topics of the services, with their names in the cluster."""
        return [self._declared(prefix + name, topic, replication) for name, topic in self.topics.items()]

    def of_module(self, module: str, prefix: str, replication: int) -> list[DeclaredTopic]:
        """The topics of one module, likewise."""
        return [
            self._declared(prefix + name.replace(_MODULE, module), topic, replication)
            for name, topic in self.modules.items()
        ]

    def _declared(self, name: str, topic: _Topic, replication: int) -> DeclaredTopic:
        if replication not in self.replication:
            raise NotConfigured(f"KGL_KAFKA_REPLICATION: {' or '.join(map(str, self.replication))} is declared")
        config = {**self.every, **self.replication[replication], **topic.config}
        return DeclaredTopic(name=name, partitions=topic.partitions, replication=replication, config=config)


def _words(given: object) -> object:
    """Kafka's settings are text: numbers and truths as it writes them."""
    if not isinstance(given, dict):
        return given
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
