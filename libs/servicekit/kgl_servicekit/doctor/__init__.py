"""What is wrong with a service, and what to do about it: asked of what is there, also while some of it is down."""
