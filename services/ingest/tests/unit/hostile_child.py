"""A child whose parser does what the content tells it to: `<verb> <argument>`."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.child import serve
from kgl_ingest.parsing.parsed_text import ParsedText, ParseFailed


def say_pid(_: str) -> str:
    return str(os.getpid())


def spin(_: str) -> str:
    while True:
        pass


def burn(seconds: str) -> str:
    end = time.process_time() + float(seconds)
    while time.process_time() < end:
        pass
    return say_pid("")


def hang(pid_file: str) -> str:
    Path(pid_file).write_text(str(os.getpid()))
    return spin("")


def meet(folder: str) -> str:
    """Wait until two children are here."""
    (Path(folder) / str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < 2:
        pass
    return "met"


def grab(_: str) -> str:
    taken = [bytearray(1 << 20)]
    while True:
        taken.append(bytearray(1 << 20))


def crash(_: str) -> str:
    return ctypes.string_at(0).decode()


def leave(status: str) -> str:
    os._exit(int(status))


def chatter(_: str) -> str:
    print("noise", flush=True)
    os.write(1, b"more noise")
    os.write(2, b"and more")
    return f"heard {sys.stdin.read()!r}"


def environment(_: str) -> str:
    return " ".join(sorted(os.environ))


def raise_bug(_: str) -> str:
    raise LookupError("a bug of a library")


def refuse(_: str) -> str:
    raise ParseFailed("no_text", "Nothing here.")


def flood(size: str) -> str:
    return "x" * int(size)


def lie(_: str) -> str:
    """Answer with a summary that no parser of ours gives."""
    for descriptor in range(3, 10):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\0\0\0\2{}\0\0\0\0\0\0\0\0")
    return spin("")


VERBS: dict[str, Callable[[str], str]] = {
    verb.__name__: verb
    for verb in (
        burn,
        chatter,
        crash,
        environment,
        flood,
        grab,
        hang,
        leave,
        lie,
        meet,
        raise_bug,
        refuse,
        say_pid,
        spin,
    )
}


def parse(content: bytes, media_type: MediaType, charset: str | None) -> ParsedText:
    verb, _, argument = content.decode().partition(" ")
    return ParsedText.of(VERBS[verb](argument))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(parse, sys.argv[1:])
