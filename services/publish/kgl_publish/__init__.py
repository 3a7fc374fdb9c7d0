"""Subscriptions, deliveries, feeds and live updates."""
