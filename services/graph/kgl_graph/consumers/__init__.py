"""Subscriptions of graph."""
