"""Short names of workspaces in URLs and headers."""

import re
import secrets
import unicodedata
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, StringConstraints

PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$"
_LONGEST_STEM = 40


def _no_uuid(slug: str) -> str:
    """A slug that reads as an id could stand for somebody else's workspace."""
    try:
        UUID(slug)
    except ValueError:
        return slug
    raise ValueError("a slug must not look like an id")


Slug = Annotated[str, StringConstraints(pattern=PATTERN), AfterValidator(_no_uuid)]


def slug_of(name: str) -> str:
    """A slug made from a person's or a lab's name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST_STEM].strip("-")
    return stem or "workspace"


def another_slug(slug: str) -> str:
    """A slug like this one that is probably free."""
    return f"{slug[:_LONGEST_STEM].rstrip('-')}-{secrets.token_hex(3)}"
