"""The small service as processes of this machine, whatever servers they stand on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kgl_cli.home import free_port
from tests.faults.downstream import Downstream
from tests.faults.processes import ManagedProcess, Nursery
from tests.faults.proxy import Proxy
from tests.faults.system import Server


class HostedEvents:
    """An API and two workers, and more when they are asked for. `logs` is the folder of what they say."""

    logs: Path
    takeover: float

    def __init__(
        self, nursery: Nursery, environment: Mapping[str, str], dsn: str, database: Server, bus_server: Server
    ) -> None:
        self._nursery = nursery
        self._environment = environment
        self._extra = 0
        self.dsn = dsn
        self.database, self.bus_server = database, bus_server
        self.database_link: Proxy | None = None
        self.downstream: Downstream
        self.api = self._process("api", "api")
        self.workers: Sequence[ManagedProcess] = [self._process(f"worker-{n}", "worker") for n in (1, 2)]
        self.made: list[ManagedProcess] = [self.api, *self.workers]
        self.url = f"http://127.0.0.1:{self.api.port}"

    def _process(self, name: str, role: str, *more: str) -> ManagedProcess:
        port = free_port()
        command = ("tests.faults.service", [role, *more, "--port", str(port)])
        environment = {**self._environment, "KGL_WORKER_NAME": name}
        return ManagedProcess(self._nursery, name, command, environment, port=port, log=self.logs / f"{name}.log")

    async def start(self) -> None:
        """Start all, and wait until they are ready."""
        for process in self.made:
            await process.start(ready=False)
        for process in self.made:
            await process.ready()

    async def refill(self) -> None:
        process = self._process("refill", "refill")
        await process.start(ready=False)
        ended = await process.finish()
        assert ended == 0, f"refill ended with {ended}; see {self.logs}/refill.log"

    async def extra_worker(self) -> ManagedProcess:
        self._extra += 1
        worker = self._process(f"extra-{self._extra}", "worker")
        self.made.append(worker)
        return worker

    async def close(self) -> None:
        """End all processes."""
        for process in self.made:
            await process.kill()
