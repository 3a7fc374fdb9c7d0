"""How people are called."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LONGEST = 200


def display_name(told: str) -> str:
    """The name that an identity provider tells, in the form of those that people choose here."""
    return " ".join(_CONTROL.sub(" ", told).split())[:_LONGEST].strip() or "Somebody"
