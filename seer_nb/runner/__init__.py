"""Drives the engine on Dask: the loop, the gangs, their checkpoints, the leases."""
