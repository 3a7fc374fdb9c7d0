"""What tests of services stand on: a real Postgres, and typed fakes."""
