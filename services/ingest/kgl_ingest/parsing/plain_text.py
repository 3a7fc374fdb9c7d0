"""Plain text, as it is."""

from kgl_ingest.parsing.parsed_text import ParsedText, decode_text


def parse(content: bytes, charset: str | None) -> ParsedText:
    """Raises: ParseFailed `not_text`, `no_text`."""
    return ParsedText.of(decode_text(content, charset))
