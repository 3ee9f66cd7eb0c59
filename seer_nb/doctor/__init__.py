"""``seer-nb doctor``: looks at all that a study will need here, and says what to do where something is wrong."""
