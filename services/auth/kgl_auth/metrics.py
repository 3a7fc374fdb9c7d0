"""The metrics of this service, besides those of the core."""

from prometheus_client import Gauge

AUDIT_CHAIN_BROKEN = Gauge(
    "kgl_audit_chain_broken", "Audit chains that the last check found edited, cut or rearranged; 0 is right"
)

PROVIDER_READ_AT = Gauge(
    "kgl_identity_provider_read_timestamp_seconds", "When this worker last read the events of Keycloak (Unix time)"
)
