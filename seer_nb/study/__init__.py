"""What a user holds: Study, Best, attach, forecast."""
