"""Write the JSON Schemas and asyncapi.yaml from the event contracts, or check that they are up to date."""

import json
import sys
from pathlib import Path

import yaml

from kgl_contracts.catalogue import all_events, asyncapi, json_schema

CONTRACTS = Path(__file__).parent.parent / "libs" / "contracts"


def documents() -> dict[Path, str]:
    """Every generated file with its content."""
    made = {
        CONTRACTS / "schemas" / f"{event.event_type}.json": json.dumps(json_schema(event), indent=2) + "\n"
        for event in all_events()
    }
    made[CONTRACTS / "asyncapi.yaml"] = yaml.safe_dump(asyncapi(), sort_keys=False, width=110, allow_unicode=True)
    return made


def main() -> int:
    """With --check, print the files that differ and return 1; else write them."""
    made = documents()
    present = set((CONTRACTS / "schemas").glob("*.json")) | {CONTRACTS / "asyncapi.yaml"}
    if "--check" in sys.argv:
        stale = sorted(
            path.name
            for path in made.keys() | present
            if path not in made or not path.exists() or path.read_text() != made[path]
        )
        print(f"contracts: stale: {', '.join(stale)}; run `make contracts`" if stale else "contracts: up to date")
        return 1 if stale else 0
    (CONTRACTS / "schemas").mkdir(exist_ok=True)
    for path in present - made.keys():
        path.unlink()
    for path, text in made.items():
        path.write_text(text)
    print(f"contracts: {len(made)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
