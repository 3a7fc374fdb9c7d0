"""Rules of graph, without I/O."""
