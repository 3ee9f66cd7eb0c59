"""Everything that runs in a Dask worker process: Run, gangs, saving, loading."""
