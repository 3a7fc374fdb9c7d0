"""What graph does, one verb a file."""
