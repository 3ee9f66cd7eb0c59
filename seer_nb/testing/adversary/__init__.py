"""Simulated studies under a virtual clock with random faults; invariants are checked at every step."""
