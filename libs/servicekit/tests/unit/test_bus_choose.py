"""Which transport a process gets from its settings, and what it is told when one is missing."""

from pathlib import Path

import pytest

from kgl_servicekit.bus.choose import bus_of
from kgl_servicekit.bus.kafka import KafkaBus
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.settings import NotConfigured, ServiceSettings


def settings(**values: object) -> ServiceSettings:
    return ServiceSettings(**{"database_url": "postgresql://x:hidden@x", **values})


def test_postgres_is_the_default_and_its_url_is_asked_for_by_name() -> None:
    assert isinstance(bus_of(settings(bus_url="postgresql://x:hidden@x"), "w"), PostgresBus)
    with pytest.raises(NotConfigured, match="KGL_BUS_URL"):
        bus_of(settings(), "w")


def test_kafka_is_reached_by_the_settings_of_its_own() -> None:
    bus = bus_of(
        settings(bus="kafka", kafka_bootstrap="a:1", kafka_user="u", kafka_password="p", kafka_prefix="x."),
        "ingest/1",
    )
    assert isinstance(bus, KafkaBus)
    assert (bus.connection.bootstrap, bus.connection.user, bus.connection.password) == ("a:1", "u", "p")
    assert bus.name_of("kgl.documents") == "x.kgl.documents"
    assert bus.worker == "ingest/1"


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "KGL_KAFKA_BOOTSTRAP"), ({"kafka_bootstrap": "a:1", "kafka_user": "u"}, "KGL_KAFKA_PASSWORD")],
)
def test_a_setting_that_kafka_needs_is_named(given: dict[str, str], missing: str) -> None:
    with pytest.raises(NotConfigured, match=missing):
        bus_of(settings(bus="kafka", **given), "w")


def test_the_password_may_come_from_a_file_and_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    monkeypatch.setenv("KGL_KAFKA_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("KGL_BUS", "kafka")
    monkeypatch.setenv("KGL_KAFKA_BOOTSTRAP", "a:1")
    read = settings(kafka_user="u")
    bus = bus_of(read, "w")
    assert isinstance(bus, KafkaBus)
    assert bus.connection.password == "hush"
    assert "hush" not in repr(read)
