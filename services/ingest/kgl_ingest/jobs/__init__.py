"""Slow and outside work of ingest."""
