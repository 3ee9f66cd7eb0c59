"""Notebook dashboard, cell magic and command line."""
