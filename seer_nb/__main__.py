"""``python -m seer_nb``: the command seer-nb where it is not on the PATH."""

from seer_nb.ui.cli import main

raise SystemExit(main())
