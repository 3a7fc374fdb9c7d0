"""The metrics of this service, besides those of the core."""

from prometheus_client import Gauge

AUDIT_CHAIN_BROKEN = Gauge(
    "kgl_audit_chain_broken", "Audit chains that the last check found edited, cut or rearranged; 0 is right"
)
