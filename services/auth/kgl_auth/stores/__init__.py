"""Ports and adapters to what is outside of a transaction: identity provider, password hashing, keys."""
