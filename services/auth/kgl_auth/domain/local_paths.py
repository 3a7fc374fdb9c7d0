"""Where a browser may be sent after login: into this site alone."""

from urllib.parse import urlsplit

LONGEST = 2000


def local_path(text: str | None) -> str | None:
    """The text if it is a path of this site, else None.

    Browsers read `\\` as `/` and drop tabs and line ends, so that `/\\host` and `/<tab>/host` would leave.
    """
    if not text or len(text) > LONGEST or not text.startswith("/") or text.startswith("//"):
        return None
    if "\\" in text or any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else text
