"""Identity, workspaces, roles, keys, modules and the audit log."""
