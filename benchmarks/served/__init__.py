"""What `benchmarks.http` starts: two servers and a load."""
