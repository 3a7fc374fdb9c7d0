"""Slow or outside work: claimed with a lease, retried, timed out, finished in one transaction."""
