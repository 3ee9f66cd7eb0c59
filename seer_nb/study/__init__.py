"""The public objects of a study: Study, Best, attach, forecast."""
