"""The HTTP API of publish."""
