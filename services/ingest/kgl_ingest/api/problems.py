"""What is wrong with an upload, as answers."""

from kgl_servicekit.errors import Invalid, UnsupportedType


class ContentRefused(UnsupportedType, code="content_unsupported", status=415):
    """The content is no document that is read here, or contradicts its declared type."""


class ContentEmpty(Invalid, code="content_empty", status=422):
    """The document is empty; send one that has content."""


class UploadMalformed(Invalid, code="upload_malformed", status=422):
    """Send multipart/form-data with one `file`, or JSON with `text`."""
