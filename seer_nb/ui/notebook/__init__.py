"""The dashboard and the cell magic."""
