"""The study folder on disk: layout, journal, snapshots, checkpoints, lock, signing."""
