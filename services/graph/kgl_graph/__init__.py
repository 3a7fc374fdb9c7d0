"""Entities, relations, mentions, vectors, search, AI requests."""
