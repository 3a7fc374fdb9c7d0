"""Files as immutable objects: one port, and its adapters."""
