"""The built-in AI module: extraction and summaries by light rules."""
