"""Refuse a change of an event that the release before could not read, or that cannot read that one's events.

A contract is compared with its JSON Schema as it was committed last, at the commit before, and at the revision that
KGL_CONTRACTS_BASE names. What a producer of this release writes has to be readable by a consumer of that one, and
the other way round; so fields that have a default may be added, and nothing else changes. Anything else is a new
version of the type (`EventData.replaces`).
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import jsoncompat

from kgl_contracts.catalogue import all_events, json_schema
from kgl_contracts.event import EventData

ROOT = Path(__file__).parent.parent
SCHEMAS = "libs/contracts/schemas"
Schema = dict[str, Any]

_ADVICE = "declare a new version that `replaces` it"


def committed(revision: str, root: Path = ROOT) -> dict[str, str]:
    """The schemas of a revision by event type; empty where there is no such revision."""
    shown = subprocess.run(
        ["git", "archive", "--format=tar", revision, SCHEMAS],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if shown.returncode:
        return {}
    with tarfile.open(fileobj=io.BytesIO(shown.stdout)) as archive:
        files = {PurePosixPath(member.name): archive.extractfile(member) for member in archive if member.isfile()}
    return {path.stem: file.read().decode() for path, file in files.items() if file is not None}


def breaks(before: Mapping[str, str], now: Mapping[str, type[EventData]]) -> list[str]:
    """One sentence for each event of before that the present contracts break."""
    found = []
    for name, schema in sorted(before.items()):
        event = now.get(name)
        if event is None:
            found.append(f"{name} is gone; topics still hold such events, so keep it, replaced by a newer version")
        elif not _reads(json.loads(schema), json_schema(event), "serializer"):
            found.append(f"{name}: the release before could not read it; {_ADVICE}")
        elif not _reads(json_schema(event, "validation"), json.loads(schema), "deserializer"):
            found.append(f"{name}: events of the release before could not be read; {_ADVICE}")
    return found


def _reads(reader: Schema, writer: Schema, changed: Literal["serializer", "deserializer"]) -> bool:
    """Whether all that a writer writes can be read; which of the two is the newer one, `changed` says."""
    pair = [_plain(reader), _plain(writer, closed=True)]
    old, new = pair if changed == "serializer" else reversed(pair)
    return jsoncompat.check_compat(json.dumps(old), json.dumps(new), changed)


def _plain(schema: Any, *, closed: bool = False) -> Any:
    """Without `$id`, which the library takes for a reference; closed: with no fields but those that it names."""
    if isinstance(schema, list):
        return [_plain(one, closed=closed) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {word: _plain(value, closed=closed) for word, value in schema.items() if word != "$id"}
    return {"additionalProperties": False, **plain} if closed and isinstance(schema.get("properties"), dict) else plain


def main() -> int:
    """1 if a contract of the last two commits, or of the revision that KGL_CONTRACTS_BASE names, is broken."""
    now = {event.event_type: event for event in all_events()}
    revisions = ["HEAD", "HEAD^", *([base] if (base := os.environ.get("KGL_CONTRACTS_BASE")) else [])]
    compared = {revision: schemas for revision in revisions if (schemas := committed(revision))}
    if base and base not in compared:
        print(f"compatibility: there are no schemas at {base} (KGL_CONTRACTS_BASE)")
        return 1
    found = sorted({sentence for schemas in compared.values() for sentence in breaks(schemas, now)})
    for sentence in found:
        print(f"compatibility: {sentence}")
    if not compared:
        print("compatibility: not compared: there is no earlier commit here")
    elif not found:
        print(f"compatibility: {len(now)} events can be read by, and read those of, {', '.join(compared)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
