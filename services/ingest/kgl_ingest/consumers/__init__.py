"""Subscriptions of ingest."""
