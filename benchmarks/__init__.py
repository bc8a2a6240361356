"""Throughput and memory benchmarks against other implementations; see README.md."""
