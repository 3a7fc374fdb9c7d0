"""Which transport the settings ask for."""

from kgl_servicekit.bus.port import Bus
from kgl_servicekit.bus.postgres import PostgresBus
from kgl_servicekit.settings import NotConfigured, ServiceSettings


def bus_of(settings: ServiceSettings, worker: str) -> Bus:
    """The bus of one process; `worker` is a name that no two processes share. Raises NotConfigured."""
    if settings.bus == "kafka":
        return _kafka(settings, worker)
    if settings.bus_url is None:
        raise NotConfigured("set KGL_BUS_URL to the database of the postgres transport, or KGL_BUS to kafka")
    return PostgresBus(settings.bus_url.get_secret_value(), worker=worker)


def _kafka(settings: ServiceSettings, worker: str) -> Bus:
    if not settings.kafka_bootstrap:
        raise NotConfigured("set KGL_KAFKA_BOOTSTRAP to host:port,... of the brokers (KGL_BUS is kafka)")
    if settings.kafka_user and settings.kafka_password is None:
        raise NotConfigured("set KGL_KAFKA_PASSWORD (or KGL_KAFKA_PASSWORD_FILE) to that of KGL_KAFKA_USER")
    # loaded here, so that a process on the postgres transport does without the client libraries
    from kgl_servicekit.bus.kafka import KafkaBus
    from kgl_servicekit.bus.kafka_connection import KafkaConnection

    connection = KafkaConnection(
        bootstrap=settings.kafka_bootstrap,
        user=settings.kafka_user,
        password=settings.kafka_password.get_secret_value() if settings.kafka_password else None,
        mechanism=settings.kafka_mechanism,
        tls=settings.kafka_tls,
        ca=settings.kafka_ca,
    )
    return KafkaBus(connection, worker=worker, prefix=settings.kafka_prefix)
