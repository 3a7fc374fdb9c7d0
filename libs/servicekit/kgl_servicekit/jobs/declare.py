"""What a service says of its jobs: their data, and who does them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

JobClass = Literal["interactive", "bulk"]


class JobData(BaseModel):
    """What a job needs to know; immutable. `class ParseDocument(JobData, kind="ingest.parse")`.

    `stage` names the stage of the receipt that the runner reports. Interactive jobs go before bulk ones of
    their kind, which keep a share of the slots.
    """

    model_config = ConfigDict(frozen=True)

    kind: ClassVar[str]
    stage: ClassVar[str | None]
    job_class: ClassVar[JobClass]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]
        cls, *, kind: str, stage: str | None = None, job_class: JobClass = "bulk", **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.kind, cls.stage, cls.job_class = kind, stage, job_class

    def stage_name(self) -> str | None:
        """The stage that this very job moves on; override when it depends on the data."""
        return self.stage

    def class_name(self) -> JobClass:
        """The class of this very job; override when it depends on the data."""
        return self.job_class


Handler = Callable[[Any, Any], Awaitable[None]]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandler:
    """How one kind of job is done: `timeout` and `lease` in seconds, `attempts` counts failures.

    `verdicts` are codes of JobFailed that speak of what came in, not of the system: whoever sent it has to act.
    `concurrency` slots of a process are for this kind alone, so that a flood of one kind leaves the others theirs.
    """

    data: type[JobData]
    handle: Handler
    timeout: float
    attempts: int
    concurrency: int
    lease: float
    verdicts: frozenset[str] = frozenset()


class Jobs:
    """The kinds of jobs that a service does."""

    def __init__(self) -> None:
        self.handlers: dict[str, JobHandler] = {}

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Kind and code of the failures that nobody here can mend."""
        return [(kind, code) for kind, handler in self.handlers.items() for code in sorted(handler.verdicts)]

    def handles(
        self,
        data: type[JobData],
        *,
        timeout: float = 300.0,
        attempts: int = 5,
        concurrency: int = 4,
        lease: float = 30.0,
        verdicts: frozenset[str] = frozenset(),
    ) -> Callable[[H], H]:
        """Declare the function that does this kind of job."""

        def declare(handle: H) -> H:
            if data.kind in self.handlers:
                raise TypeError(f"job kind {data.kind} has two handlers")
            self.handlers[data.kind] = JobHandler(
                data=data,
                handle=handle,
                timeout=timeout,
                attempts=attempts,
                concurrency=concurrency,
                lease=lease,
                verdicts=verdicts,
            )
            return handle

        return declare
