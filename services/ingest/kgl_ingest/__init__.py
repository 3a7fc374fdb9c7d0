"""Documents, versions, chunks; the operations of the whole system."""
