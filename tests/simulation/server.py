"""The simulated database server: sessions, transactions, waiting, and deadlocks.

A statement runs in a greenlet, so that it can stop in the middle, where Postgres would wait for a lock, and go on
from there. Who goes on, and when, is decided outside.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg
from greenlet import GreenletExit, getcurrent, greenlet

from tests.simulation.compile_statements import Compiler, Plan
from tests.simulation.execution import Answer, Execution
from tests.simulation.schema import Schema
from tests.simulation.storage import Table, Version, Work, forget, settle, undo, unlock

_PLANS: dict[str, Plan] = {}
_IDLE: list[Any] = []


def _serve(session: "Session") -> None:
    """Run statements, one after the other: to make a greenlet takes longer than most of them."""
    while True:
        session.answer()
        _IDLE.append(getcurrent())
        session = session.parent.switch()


class Session:
    """One connection, as the server sees it."""

    def __init__(self, server: "Server", name: str) -> None:
        self.server = server
        self.name = name
        self.work: Work | None = None
        self.failed = False
        self.closed = False
        self.waits_for: Work | None = None
        self.in_line = True
        self.condemned = False
        self.parent: Any = None
        self._worker: Any = None
        self._asked: tuple[str, Sequence[Any]] = "", ()
        self._outcome: Answer | Exception | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def busy(self) -> bool:
        return self._worker is not None

    @property
    def may_go_on(self) -> bool:
        """Whether a statement that waits has nothing to wait for any more."""
        return self.condemned or (self.waits_for is not None and self.waits_for.done)

    def is_in(self, begin: str) -> bool:
        """Whether the last statement of an open transaction begins so."""
        return self.work is not None and self._asked[0].lstrip().startswith(begin)

    @property
    def has_only_read(self) -> bool:
        """Whether the transaction has changed nothing, and holds no lock."""
        work = self.work
        return work is not None and not (work.undo or work.locked or work.advisory)

    def start(self, sql: str, args: Sequence[Any]) -> bool:
        """Begin a statement; True when it has ended, False while it waits."""
        if sql not in _PLANS and sql.startswith(("commit", "rollback", "begin", "set ")):
            self._outcome = self._by_word(sql)  # never waits
            self.server.prune()
            if self.server.on_statement is not None:
                self.server.on_statement(self, "start", sql, args)
            return True

        self._asked, self._outcome = (sql, args), None
        self._worker = _IDLE.pop() if _IDLE else greenlet(_serve)
        self.server.running += 1
        ended = self._go_on()
        if self.server.on_statement is not None:
            self.server.on_statement(self, "start", sql, args)
        return ended

    def answer(self) -> None:
        """Run the statement to its end, and keep what it gives."""
        sql, args = self._asked
        try:
            self._outcome = self._statement(sql, args)
        except GreenletExit:
            if not self.closed:
                raise  # the schedule is gone, and this statement with it
            self._outcome = asyncpg.AdminShutdownError("terminated")
        except asyncpg.PostgresError as error:
            self._outcome = error
        except Exception as error:  # the simulation does not know the statement, or is wrong: it proves nothing
            self.server.broken = self._outcome = error

    def go_on(self) -> bool:
        """Let a statement that waited run until it ends or waits again."""
        ended = self._go_on()
        if ended and self.server.on_statement is not None:
            self.server.on_statement(self, "end", "", ())
        return ended

    def _go_on(self) -> bool:
        self.parent = getcurrent()
        self._worker.switch(self)
        if self._outcome is None:
            return False
        self._ended()
        return True

    def peek(self) -> "Answer | Exception | None":
        """What the statement that has ended gave."""
        return self._outcome

    def outcome(self) -> Answer:
        """What the statement that has ended gave; raises what went wrong."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Answer):
            return outcome
        assert outcome is not None
        raise outcome

    def _ended(self) -> None:
        self._worker = None
        self.server.running -= 1
        self.server.prune()

    def close(self) -> None:
        """The connection is gone, and with it what was not committed."""
        if self.closed:
            return
        self.closed = True
        if self.server.on_close is not None:
            self.server.on_close(self)
        if self._worker is not None:
            self.parent = getcurrent()
            self._worker.throw()
            self.waits_for = None
            self._ended()
        if self.work is not None:
            self._end(commit=False)
        self.server.sessions.remove(self)

    def _by_word(self, sql: str) -> Answer:
        """What is no plan: to begin a transaction, or to end one."""
        if sql.startswith("begin"):
            self.work = self.server.begin(self)
            return Answer([], (), "SET" if "; set " in sql else "BEGIN")
        if sql.startswith("set "):
            if self.failed:
                raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
            return Answer([], (), "SET")
        return self._end_by_word(commit=sql.startswith("commit"))

    def _statement(self, sql: str, args: Sequence[Any]) -> Answer:
        if self.failed:
            raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
        alone = self.work is None
        if self.work is None:
            self.work = self.server.begin(self)
        try:
            answer = self._run(self.server.plan(sql), args)
        except GreenletExit:
            raise
        except Exception:
            if alone:
                self._end(commit=False)
            else:
                self.failed = True
            raise
        if alone:
            self._end(commit=True)
        return answer

    def _run(self, plan: Plan, args: Sequence[Any]) -> Answer:
        assert self.work is not None
        self.work.statements += 1
        frame: list[Any] = [None] * plan.size
        frame[0], frame[1] = args, Execution(self.server, self, self.work)
        rows = plan.run(frame)
        return Answer(rows, plan.names, f"{plan.tag} {len(rows) if plan.tag == 'SELECT' else frame[plan.changed]}")

    def _end_by_word(self, *, commit: bool) -> Answer:
        if self.work is None:
            return Answer([], (), "COMMIT" if commit else "ROLLBACK")
        commit = commit and not self.failed
        self._end(commit=commit)
        return Answer([], (), "COMMIT" if commit else "ROLLBACK")

    def _end(self, *, commit: bool) -> None:
        work, self.work, self.failed = self.work, None, False
        assert work is not None
        self.server.end(work, commit=commit)


class Server:
    """The database: tables, the order of commits, locks by number, and who chooses the victim of a deadlock."""

    def __init__(
        self, schema: Schema, now: Callable[[], datetime], choose: Callable[[list[Session]], Session] | None = None
    ) -> None:
        self._schema = schema
        self._choose = choose or (lambda cycle: cycle[0])
        self._number = 0
        self._connected = 0
        self._drawn: dict[str, int] = {}
        self._dead: list[tuple[Table, Version]] = []
        self.now = now
        self.tables = schema.empty()
        self.sessions: list[Session] = []
        self.advisory: dict[object, Work] = {}
        self.commits = 0
        self.running = 0
        self.broken: Exception | None = None
        self.on_commit: Callable[[Work], None] = lambda work: None
        self.on_statement: Callable[[Session, Any, str, Sequence[Any]], None] | None = None
        self.on_close: Callable[[Session], None] | None = None
        self.on_uncertain: Callable[[], None] | None = None

    def connect(self, name: str) -> Session:
        self._connected += 1
        session = Session(self, f"{name}#{self._connected}")
        self.sessions.append(session)
        return session

    def plan(self, sql: str) -> Plan:
        if sql not in _PLANS:
            _PLANS[sql] = Compiler(self._schema.tables).plan(sql)
        return _PLANS[sql]

    def draw(self, name: str) -> int:
        """The next number of an identity column; a rollback does not give it back."""
        self._drawn[name] = self._drawn.get(name, 0) + 1
        return self._drawn[name]

    def begin(self, session: Session) -> Work:
        self._number += 1
        return Work(session, self._number, self.now())

    def end(self, work: Work, *, commit: bool) -> None:
        if commit:
            self.commits += 1
            work.commit = self.commits
            self._dead.extend(settle(work))
        else:
            undo(work)
        work.done = True
        rivals = [s for s in self.sessions if s.waits_for is work and not s.in_line]
        if len(rivals) > 1:
            self.uncertain()
        unlock(work)
        for key in work.advisory:
            del self.advisory[key]
        if commit:
            self.on_commit(work)

    def uncertain(self) -> None:
        """Here a real server may do something else."""
        if self.on_uncertain is not None:
            self.on_uncertain()

    def prune(self) -> None:
        """Forget versions that no statement can see any more."""
        if self.running or not self._dead:
            return
        forget(self._dead)
        self._dead = []

    def deadlocked(self, session: Session) -> Session | None:
        """The session that has to give up, if this one's waiting closes a circle."""
        cycle, current = [session], session
        while current.waits_for is not None and not current.waits_for.done:
            current = current.waits_for.session
            if current is session:
                return self._choose(cycle)
            if current in cycle or current.condemned:
                return None
            cycle.append(current)
        return None
