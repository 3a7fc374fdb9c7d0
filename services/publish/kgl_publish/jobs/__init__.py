"""Slow and outside work of publish."""
