"""A loopback cloud and adversarial simulations, for tests and benchmarks."""
