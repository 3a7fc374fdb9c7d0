"""The bus: one port, and its transports."""
