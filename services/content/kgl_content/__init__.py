"""Items with versions and review."""
