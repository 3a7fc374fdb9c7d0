"""The demo's real input: the descriptions and requirements of the distributions of the runtime lock."""

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[3] / "requirements" / "runtime.txt"
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==")
_SUFFIX = {"text/markdown": "md", "text/x-rst": "rst", "text/plain": "txt"}


@dataclass(frozen=True, slots=True)
class Package:
    """One installed distribution: its README, and what it requires here."""

    name: str
    readme: str
    media_type: str
    requires: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return f"{self.name}.{_SUFFIX.get(self.media_type, 'txt')}"


def read_corpus() -> list[Package]:
    """The installed distributions that the lock names, one per name, sorted."""
    locked: set[str] = {
        canonicalize_name(found[1]) for line in LOCK.read_text().splitlines() if (found := _NAME.match(line))
    }
    packages: dict[str, Package] = {}
    for distribution in distributions():
        name = canonicalize_name(distribution.metadata["Name"] or "")
        if name in locked and name not in packages:
            packages[name] = _package(name, distribution, locked)
    return [packages[name] for name in sorted(packages)]


def _package(name: str, distribution: Distribution, locked: set[str]) -> Package:
    metadata = distribution.metadata
    body = metadata.get_payload() or metadata["Description"] or ""  # type: ignore[attr-defined]
    declared = (metadata["Description-Content-Type"] or "text/x-rst").partition(";")[0].strip().lower()
    environment: dict[str, str] = {**{k: str(v) for k, v in default_environment().items()}, "extra": ""}
    requires = set()
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        other = canonicalize_name(requirement.name)
        if other in locked and other != name and (not requirement.marker or requirement.marker.evaluate(environment)):
            requires.add(other)
    media_type = declared if declared in _SUFFIX else "text/plain"
    return Package(name, str(body).strip(), media_type, tuple(sorted(requires)))
