"""Ports and adapters to things outside of graph."""
