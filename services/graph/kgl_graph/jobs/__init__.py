"""Slow and outside work of graph."""
