"""Where machines come from. A provider knows no trial."""

from seer_nb.providers.local import Local

__all__ = ["Local"]
