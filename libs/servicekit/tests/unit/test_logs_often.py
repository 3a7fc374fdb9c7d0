import json
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from kgl_servicekit import logs


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_least", None)
    yield
    logger.remove()
    logger.configure(extra={})


def test_a_frequent_line_looks_like_every_other(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging("INFO", "sample")
    logger.bind(route="/x", status=200).info("request.handled")
    logs.log_often("INFO", "request.handled", {"service": "sample", "route": "/x", "status": 200})
    slow, often = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert slow.pop("at")[-6:] == often.pop("at")[-6:] == "+00:00"
    assert often == slow


def test_the_level_holds_for_frequent_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging("ERROR", "sample")
    logs.log_often("INFO", "request.handled", {})
    assert capsys.readouterr().err == ""


def test_who_has_a_sink_of_their_own_gets_frequent_lines_too() -> None:
    lines: list[Any] = []
    logger.add(lambda message: lines.append(message.record), level="INFO")
    logs.log_often("INFO", "request.handled", {"route": "/x"})
    assert [(line["message"], line["extra"]["route"]) for line in lines] == [("request.handled", "/x")]
