"""The command seer-nb where it is not on the path: ``python -m seer_nb``."""

from seer_nb.ui.cli import main

raise SystemExit(main())
