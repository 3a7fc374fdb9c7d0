"""Slow and outside work of content."""
