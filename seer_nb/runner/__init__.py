"""The process that drives a study: its loop, the machines and their leases, and the gangs on Dask."""
