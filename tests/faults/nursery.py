"""A process that has imported everything, and forks the others: a start costs a hundredth of what imports do.

`python -m tests.faults.nursery <module> ...` imports these, then reads one order a line from standard input, and
tells of each child that was born and that ended.
"""

import gc
import importlib
import os
import runpy
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Run a module as a program: its arguments, its environment, and the file that its lines are added to."""

    id: str
    module: str
    arguments: Sequence[str]
    environment: dict[str, str]
    log: str

    def line(self) -> bytes:
        return orjson.dumps(asdict(self)) + b"\n"


def _child(order: Order) -> int:
    """The life of a child; the answer is its exit status."""
    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    gc.enable()
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, null), (1, log), (2, log)):
        os.dup2(target, number)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = [order.module, *order.arguments]
    try:
        _read_environment_again()
        runpy.run_module(order.module, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _read_environment_again() -> None:
    """What the kit reads when it is imported."""
    from kgl_servicekit import failpoints, poison

    failpoints._from_environment()
    poison.poison(poison._from_environment())


def _bury(born: dict[int, str]) -> None:
    """Tell of all that have ended."""
    while born:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(ended=born.pop(pid), code=os.waitstatus_to_exitcode(status))


def _tell(**told: str | int) -> None:
    os.write(1, orjson.dumps(told) + b"\n")


def _fork(order: Order, born: dict[int, str]) -> None:
    Path(order.log).parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        os._exit(_flushed(_child(order)))
    born[pid] = order.id
    _tell(born=order.id, pid=pid)


def _flushed(code: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    """Fork until standard input ends; the children are then killed."""
    sys.path.insert(0, str(Path.cwd()))
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.disable()
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    born: dict[int, str] = {}
    rest = b""
    _tell(ready=1)
    while True:
        readable, _, _ = select.select([0, wake], [], [], 5.0)
        if wake in readable:
            os.read(wake, 4096)
        _bury(born)
        if 0 not in readable:
            continue
        part = os.read(0, 1 << 16)
        if not part:
            break
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            _fork(Order(**orjson.loads(line)), born)
    for pid in born:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
