"""The kgl command: dev, demo, webhooks."""
