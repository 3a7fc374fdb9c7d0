"""Events in: one module for each subscription."""
