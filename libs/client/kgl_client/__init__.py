"""SDK for modules and scripts: REST client, leased jobs, event consumer and producer."""
