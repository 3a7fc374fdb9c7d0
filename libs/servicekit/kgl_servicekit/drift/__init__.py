"""Drift: what is derived and is not what its source says. Looked for each night and by command, and repaired."""
