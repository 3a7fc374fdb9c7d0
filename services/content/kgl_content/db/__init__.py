"""Tables and statements of content."""
