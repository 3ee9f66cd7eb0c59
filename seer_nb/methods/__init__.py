"""Methods of neighbouring systems, each usable by itself: ``from seer_nb.methods import bilevel``."""
