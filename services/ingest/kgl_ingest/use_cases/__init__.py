"""What ingest does, one verb a file."""
