"""Derived tables of publish that can be built anew while it works."""
