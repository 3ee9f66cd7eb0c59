"""Views of a study's state: tables, files, figures, html and text. They know neither Dask nor a policy."""
