"""Subscriptions of publish."""
