"""Notebook interface: the dashboard and the cell magic."""
