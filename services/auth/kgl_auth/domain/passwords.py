"""What a password must be, before it is hashed."""

import unicodedata

SHORTEST = 10
LONGEST = 256


def prepared(password: str) -> str:
    """The form that is hashed: NFKC, so that two keyboards that type the same word agree (NIST SP 800-63B)."""
    return unicodedata.normalize("NFKC", password)


def weakness(password: str, email: str) -> str | None:
    """Why the password is refused, as a sentence for its owner; None when it is good enough."""
    text = prepared(password)
    if len(text) < SHORTEST:
        return f"Use at least {SHORTEST} characters."
    if len(text) > LONGEST:
        return f"Use at most {LONGEST} characters."
    if text.casefold().strip() == email.casefold():
        return "Use something else than your e-mail address."
    if not text.strip():
        return "Use more than blanks."
    return None
