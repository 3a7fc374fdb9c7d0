"""The HTTP API of content."""
