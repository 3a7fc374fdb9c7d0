"""Tables, and every statement of the service."""
