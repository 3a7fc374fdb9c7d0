"""Event contracts of the Knowledge Graph Lab: envelope, topics, events, JSON Schemas, AsyncAPI."""
