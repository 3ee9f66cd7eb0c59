"""Comparisons and measurements that anyone can rerun: ``python -m seer_nb.bench``."""
