"""The slots of a kind, and how its pause grows."""

from kgl_servicekit.jobs.declare import JobHandler
from kgl_servicekit.jobs.line import Asked
from kgl_servicekit.jobs.pool import Pool
from kgl_servicekit.testing.jobs import Work


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _nothing(_job: object, _outside: object) -> None:
    """A handler."""


def pool(concurrency: int = 4) -> tuple[Pool, Clock]:
    clock = Clock()
    handler = JobHandler(data=Work, handle=_nothing, timeout=60, attempts=5, concurrency=concurrency, lease=30)
    return Pool(handler, clock), clock


def asked(pool: Pool) -> int:
    ask = pool.ask()
    return ask.most if ask else 0


def test_each_outage_pauses_twice_as_long_up_to_five_seconds_and_a_success_ends_it() -> None:
    kind, clock = pool()
    pauses = []
    for _ in range(7):
        pauses.append(kind.pause())
        assert (asked(kind), kind.paused) == (0, True)
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 5, 5, 5, 5]
    kind.resume()
    assert asked(kind) == 4
    assert kind.pause() == 1


def test_jobs_that_meet_the_same_outage_lengthen_the_pause_once() -> None:
    kind, clock = pool()
    first = kind.pause()
    clock.now += 0.25
    assert kind.pause() == kind.pause() == first - 0.25


def test_after_a_pause_one_job_tries_before_the_others_follow() -> None:
    kind, clock = pool()
    clock.now += kind.pause()
    assert asked(kind) == 1
    slot = kind.take()
    assert asked(kind) == 0
    kind.release(slot)
    kind.resume()
    assert asked(kind) == 4


def test_a_pool_asks_for_its_free_slots_and_every_fourth_time_for_bulk_first() -> None:
    kind, _ = pool(2)
    kind.take()
    asks: list[Asked | None] = []
    for _ in range(8):
        asks.append(kind.ask())
        kind.claimed(1, 1)
    assert [(ask.first, ask.most) for ask in asks if ask] == ([("interactive", 1)] * 3 + [("bulk", 1)]) * 2


def test_a_claim_that_got_all_it_asked_for_leaves_more_to_be_claimed() -> None:
    kind, _ = pool()
    assert kind.more
    kind.claimed(2, 4)
    assert not kind.more
    kind.claimed(4, 4)
    assert kind.more
