"""The README's section "When something fails": a broken event is found by its receipt, read, fixed and tried again."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from kgl_cli.home import Credentials
from kgl_cli.main import app
from kgl_cli.testing import DevSystem, dev_system

README = Path(__file__).parents[2] / "README.md"
POISONED = "ingest.document.parsed.v1"


@pytest.fixture(scope="module")
def system() -> Iterator[tuple[DevSystem, Credentials]]:
    with dev_system(KGL_ENV="development", KGL_POISON=POISONED) as system:
        yield system, system.start()
        assert system.stop() == 0


@pytest.fixture
def http(system: tuple[DevSystem, Credentials]) -> Iterator[httpx.Client]:
    credentials = system[1]
    headers = {"Authorization": f"Bearer {credentials.api_key}"}
    with httpx.Client(base_url=credentials.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def kgl(system: DevSystem, *arguments: str, status: int = 0) -> str:
    """What the command prints; the process of each would take longer to start than all of them to run."""
    done = CliRunner().invoke(app, list(arguments), env={"KGL_HOME": str(system.home.path), "COLUMNS": "200"})
    assert done.exit_code == status, done.output
    return done.output


def four_commands() -> list[list[str]]:
    """The commands of the README's section, as they stand there."""
    section = README.read_text().split("## When something fails")[1].split("\n## ")[0]
    lines = re.findall(r"^\.venv/bin/kgl (dead-letters .+?)(?:\s+#.*)?$", section, re.MULTILINE)
    return [line.split() for line in lines]


def test_a_broken_document_is_found_by_its_receipt_read_fixed_and_redriven_with_four_commands(
    system: tuple[DevSystem, Credentials], http: httpx.Client
) -> None:
    uploaded = http.post("/ingest/v1/documents", json={"text": "Zeppelins moor in Friedrichshafen."}).json()
    failed = http.get(f"/operations/v1/{uploaded['id']}", params={"wait": 60}).json()
    assert failed["state"] == "failed"
    assert [(s["name"], s["error"]) for s in failed["stages"] if s["state"] == "failed"] == [
        ("graph.index", "unreadable")
    ]

    commands = four_commands()
    assert [command[1] for command in commands] == ["list", "show", "correct", "redrive"]
    letter = ""
    for command in commands:
        words = [word.replace("RECEIPT", uploaded["id"]).replace("LETTER", letter) for word in command]
        told = kgl(system[0], *words)
        if command[1] == "list":
            letter = re.findall(r"^(\S+)  dead  graph\.documents", told, re.MULTILINE)[0]
            assert "2 letters" in told
        if command[1] == "show":
            assert '"version": "broken on purpose"' in told
            assert "version: Input should be a valid integer" in told
    until = time.monotonic() + 60
    while (receipt := http.get(f"/operations/v1/{uploaded['id']}", params={"wait": 60}).json())["state"] != "done":
        assert time.monotonic() < until, receipt
        time.sleep(0.1)
    assert uploaded["subject"] in http.get("/graph/v1/search", params={"q": "zeppelins"}).text
    audited = http.get("/auth/v1/audit", params={"action": "dead_letter.redrive"}).json()["items"]
    assert len(audited) == 2
    assert kgl(system[0], "dead-letters", "list").strip() == "0 letters"


def test_letters_are_exported_changed_in_the_file_imported_counted_and_discarded(
    system: tuple[DevSystem, Credentials], http: httpx.Client, tmp_path: Path
) -> None:
    uploaded = http.post("/ingest/v1/documents", json={"text": "Another text that will not be read."}).json()
    http.get(f"/operations/v1/{uploaded['id']}", params={"wait": 60})
    which, file = f"operation={uploaded['id']}", tmp_path / "letters.jsonl"
    dev = system[0]
    assert "2 letters" in kgl(dev, "dead-letters", "export", str(file), which)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["payload"]["version"] for line in lines} == {"broken on purpose"}
    lines[0]["payload"]["version"] = 1
    file.write_text("\n".join(json.dumps(line) for line in lines))
    assert "1 corrected" in kgl(dev, "dead-letters", "import", str(file))
    assert "corrected" in kgl(dev, "dead-letters", "show", lines[0]["id"])
    counted = kgl(dev, "dead-letters", "count", which, "--by", "reason")
    assert counted.split() == ["2", "unreadable"]
    refused = kgl(dev, "dead-letters", "correct", lines[1]["id"], "--set", "version=0", status=1)
    assert "#/payload/version" in refused
    kgl(dev, "dead-letters", "redrive", lines[1]["id"], status=1)  # as broken as before
    given_up = kgl(dev, "dead-letters", "discard", which, "--reason", "a drill")
    assert "2 given up" in given_up and "kgl drift --repair" in given_up
    assert kgl(dev, "dead-letters", "list", which).strip() == "0 letters"
