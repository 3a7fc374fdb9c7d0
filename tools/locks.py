"""Check the locks: no address, no path, every requirement with a hash, and all that our packages ask for."""

import re
import sys
import tomllib
from pathlib import Path

from tools.image_requirements import image_requirements

ROOT = Path(__file__).parent.parent
_ADDRESS = re.compile(r"https?:|--(?:extra-)?index|--find-links|file:|@ |(?:^|\s)/[a-z]")
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    wrong: list[str] = []
    for lock in (ROOT / "requirements").rglob("*.txt"):
        wrong += _check(lock)
    locked = {_normal(name) for name in _names(ROOT / "requirements" / "runtime.txt")}
    for project in [*sorted(ROOT.glob("*/*/pyproject.toml")), ROOT / "cli" / "pyproject.toml"]:
        for asked in tomllib.loads(project.read_text())["project"]["dependencies"]:
            name = _NAME.match(asked)
            if name and not asked.startswith("kgl-") and _normal(name[1]) not in locked:
                wrong.append(f"{project.relative_to(ROOT)} asks for {asked}, which is not locked; run `make lock`")
    pinned = _pins(ROOT / "requirements" / "runtime.txt")
    for lock in (ROOT / "requirements" / "images").glob("*.txt"):
        names = {name.partition("[")[0] for name in map(_normal_asked, image_requirements(lock.stem))}
        if others := sorted(_pins(lock) - pinned):
            wrong.append(f"images/{lock.name} has other versions than runtime.txt: {others}; run `make lock`")
        if missing := sorted(names - {_normal(name) for name in _names(lock)}):
            wrong.append(f"images/{lock.name} lacks {missing}; run `make lock`")
    print("\n".join(wrong) or "locks: hashed, without addresses, complete")
    return 1 if wrong else 0


def _check(lock: Path) -> list[str]:
    text = lock.read_text()
    wrong = [f"{lock.name}:{n}: {line}" for n, line in enumerate(text.splitlines(), 1) if _ADDRESS.search(line)]
    entries = [entry for entry in re.split(r"\n(?=[a-z0-9])", text) if _NAME.match(entry)]
    unhashed = [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]
    return wrong + [f"{lock.name}: {line} has no hash" for line in unhashed]


def _names(lock: Path) -> list[str]:
    return [found[1] for line in lock.read_text().splitlines() if (found := _NAME.match(line))]


def _pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[A-Za-z0-9._-]+==[^ \\;]+", lock.read_text(), re.MULTILINE))


def _normal_asked(asked: str) -> str:
    found = _NAME.match(asked)
    return _normal(found[1]) if found else asked


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
