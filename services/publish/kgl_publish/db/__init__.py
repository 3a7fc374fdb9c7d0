"""Tables and statements of publish."""
