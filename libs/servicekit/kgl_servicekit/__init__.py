"""What the services share, and none of them names: the reliability core, the HTTP kit, identity checks."""
