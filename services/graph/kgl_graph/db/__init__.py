"""Tables and statements of graph."""
