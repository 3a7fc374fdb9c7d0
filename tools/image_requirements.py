"""What an image has to have besides our own packages: `image_requirements.py IMAGE`, one requirement a line."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ("hatchling", "editables")  # our own packages are installed without looking at an index
# the command that prepares servers is a part of kgl_cli that needs little of what the whole needs
_SETUP = ("kgl-servicekit", "typer", "rich", "minio>=7.2", "pyyaml>=6")
_EDGE = ("fastapi-swagger>=0.4.64",)  # for the files in it; its code is not run


def image_requirements(image: str) -> list[str]:
    """The requirements of a service, the reader, `setup`, the `kit` or the `edge`, and of our packages below them."""
    if image == "edge":
        return list(_EDGE)
    found: set[str] = set(BUILD)
    waiting = list({"setup": _SETUP, "kit": ("kgl-servicekit",)}.get(image, (f"kgl-{image}",)))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if not name.startswith("kgl-"):
            found.add(name)
        elif name not in seen:
            seen.add(name)
            waiting += _asked_by(name.removeprefix("kgl-"))
    return sorted(found)


def _asked_by(package: str) -> list[str]:
    (project,) = ROOT.glob(f"*/{package}/pyproject.toml")
    asked: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
    return asked


if __name__ == "__main__":
    print("\n".join(image_requirements(sys.argv[1])))
