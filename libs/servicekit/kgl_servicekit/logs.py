"""Logs: one JSON line each, `noun.verb` with fields; never a secret, a token or document text."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

if TYPE_CHECKING:
    from loguru import Message


_least: int | None = None  # the level that `configure_logging` was told; None while others decide where lines go


def configure_logging(level: str = "INFO", service: str = "kgl") -> None:
    """Send everything, the standard library's records too, to standard error as JSON lines."""
    global _least
    _least = logger.level(level).no
    logger.remove()
    logger.configure(extra={"service": service})
    logger.add(_write, level=level, diagnose=False, backtrace=False, catch=True)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def log_often(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """A line that is written thousands of times a second, in the form of all others.

    loguru takes 50 µs to find out who is calling, which such a line does not show; this takes 6.
    """
    if _least is None:
        logger.bind(**fields).log(level, event)
    elif logger.level(level).no >= _least:
        _print({"at": datetime.now(UTC).isoformat(), "level": level, "event": event, **fields})


def _print(line: Mapping[str, Any]) -> None:
    sys.stderr.write(orjson.dumps(line, default=str).decode() + "\n")


def _write(message: "Message") -> None:
    record = message.record
    line = {
        "at": record["time"].astimezone(UTC).isoformat(),
        "level": record["level"].name,
        "event": record["message"],
        **record["extra"],
    }
    if (error := record["exception"]) is not None and error.type is not None:
        line["error_type"] = error.type.__name__
        line["error"] = str(error.value)[:500]
        if error.traceback is not None:
            line["where"] = _innermost(error.traceback)
    _print(line)


def _innermost(traceback: object) -> str:
    last = traceback
    while (following := getattr(last, "tb_next", None)) is not None:
        last = following
    frame = getattr(last, "tb_frame", None)
    return f"{frame.f_code.co_filename}:{getattr(last, 'tb_lineno', 0)}" if frame is not None else ""


class _Intercept(logging.Handler):
    """The standard library's records, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(
            record.levelname if record.levelname in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"} else "INFO",
            record.getMessage().replace("\n", " ")[:2000],
        )
