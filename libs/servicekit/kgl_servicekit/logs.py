"""Logs: one JSON line each, `noun.verb` with fields; never a secret, a token or document text."""

import logging
import sys
from typing import TYPE_CHECKING

import orjson
from loguru import logger

if TYPE_CHECKING:
    from loguru import Message


def configure_logging(level: str = "INFO", service: str = "kgl") -> None:
    """Send everything, the standard library's records too, to standard error as JSON lines."""
    logger.remove()
    logger.configure(extra={"service": service})
    logger.add(_write, level=level, diagnose=False, backtrace=False, catch=True)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def _write(message: "Message") -> None:
    record = message.record
    line = {
        "at": record["time"].astimezone().isoformat(),
        "level": record["level"].name,
        "event": record["message"],
        **record["extra"],
    }
    if (error := record["exception"]) is not None and error.type is not None:
        line["error_type"] = error.type.__name__
        line["error"] = str(error.value)[:500]
        if error.traceback is not None:
            line["where"] = _innermost(error.traceback)
    sys.stderr.write(orjson.dumps(line, default=str).decode() + "\n")


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
