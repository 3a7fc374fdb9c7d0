"""The reader's rules: from the chunks of a document to entities, relations and a summary, without I/O.

The way through: `document` (chunks become one text), `outline` (what is prose in it), then `gazetteer`,
`patterns` and `key_phrases` (what it speaks of), `relations`, `summary`, and `extract`, the door to all.
"""
