"""Views of a study: text, static html, figures. They know neither Dask nor a policy."""
