"""The parser of each media type; each brings its library only when it is first needed."""

from kgl_ingest.domain.media_types import MediaType
from kgl_ingest.parsing.parsed_text import ParsedText


def parse(content: bytes, media_type: MediaType, charset: str | None = None) -> ParsedText:
    """The text of a document; `charset` is what its media type declared.

    Raises: ParseFailed.
    """
    match media_type:
        case MediaType.PLAIN:
            from kgl_ingest.parsing import plain_text

            return plain_text.parse(content, charset)
        case MediaType.MARKDOWN:
            from kgl_ingest.parsing import markdown

            return markdown.parse(content, charset)
        case MediaType.RESTRUCTURED_TEXT:
            from kgl_ingest.parsing import restructured_text

            return restructured_text.parse(content, charset)
        case MediaType.HTML:
            from kgl_ingest.parsing import html

            return html.parse(content, charset)
        case MediaType.PDF:
            from kgl_ingest.parsing import pdf

            return pdf.parse(content)
