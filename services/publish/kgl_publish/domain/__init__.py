"""Rules of publish, without I/O."""
