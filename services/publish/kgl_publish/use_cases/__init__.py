"""What publish does, one verb a file."""
