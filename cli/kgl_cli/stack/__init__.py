"""The whole system on real servers by docker compose: what `make up` does besides `docker compose up`."""
