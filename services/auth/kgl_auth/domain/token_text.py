"""What stands in a token in compact form, whoever signed it: to be read before or after its signature is checked."""

import binascii
import json
from base64 import urlsafe_b64decode
from typing import Any


def header_of(token: str) -> dict[str, Any]:
    """The header of a JWT; ValueError for what is none."""
    return _part(token, 0)


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT; ValueError for what is none. Who has not verified the token must not believe them."""
    return _part(token, 1)


def _part(token: str, number: int) -> dict[str, Any]:
    try:
        encoded = token.split(".")[number]
        content = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (IndexError, binascii.Error, RecursionError) as wrong:
        raise ValueError("this is no JWT") from wrong
    if not isinstance(content, dict):
        raise ValueError("this part of a JWT is no object")
    return content
