"""What content does, one verb a file."""
