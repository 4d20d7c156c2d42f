"""Throughput beside the floor; `python -m benchmarks --help` says how."""
