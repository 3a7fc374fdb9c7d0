"""The exit status of a command that a signal ends."""

import asyncio
import os
import signal

import pytest

from kgl_cli.ending import status_of


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_that_is_stopped_says_so_and_what_serves_has_done_its_part(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = []

    async def work() -> int:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(number)
        return 0

    assert status_of(work()) == 128 + number
    assert capsys.readouterr().err == f"stopped by {number.name} before it was done\n"
    assert status_of(work(), serves=True) == 0
    assert capsys.readouterr().err == ""
    assert cleaned == [number, number]


def test_the_status_of_work_that_ends_by_itself_is_its_own() -> None:
    async def work() -> int:
        return 3

    assert status_of(work()) == status_of(work(), serves=True) == 3
