"""Rules of content, without I/O."""
