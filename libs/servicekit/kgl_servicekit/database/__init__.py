"""Transactions, the core tables, migrations."""
