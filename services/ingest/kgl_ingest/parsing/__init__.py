"""From the bytes of a document to clean text and chunks, in child processes that may die."""
