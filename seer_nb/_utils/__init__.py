"""Private helpers that know nothing of studies."""
