"""Derived tables of graph that can be built anew while it works."""
