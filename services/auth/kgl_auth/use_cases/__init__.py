"""One verb for each file; the same door for HTTP, events and the command line."""
