"""The rules of ingest that need no I/O."""
