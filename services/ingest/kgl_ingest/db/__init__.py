"""Tables and statements of ingest."""
