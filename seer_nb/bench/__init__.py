"""Benchmarks, comparisons and the fault campaign: ``python -m seer_nb.bench``."""
