"""The HTTP API of graph."""
