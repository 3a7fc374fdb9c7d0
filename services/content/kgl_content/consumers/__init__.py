"""Subscriptions of content."""
