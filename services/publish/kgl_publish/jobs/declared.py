"""The jobs of publish: their data, and what they use of the world outside."""

from dataclasses import dataclass
from uuid import UUID

from kgl_publish.stores.egress import Egress
from kgl_servicekit.jobs.declare import JobData, Jobs

jobs = Jobs()


@dataclass(frozen=True, slots=True)
class Outside:
    """The clients of publish, built once by its bootstrap."""

    egress: Egress
    delays: tuple[float, ...]


class Deliver(JobData, kind="publish.deliver", job_class="interactive"):
    """One attempt to deliver; each has a number and a job of its own."""

    delivery_id: UUID
    number: int
