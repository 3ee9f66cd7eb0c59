"""Methods related to SEER, each usable on its own: ``from seer_nb.methods import bilevel``."""
