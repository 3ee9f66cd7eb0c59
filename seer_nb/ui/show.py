"""What a study shows of itself below a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seer_nb.reading import Reading


def show(study: Reading) -> None:
    """The live view where there can be one; a static picture elsewhere."""
    from seer_nb.study import Study

    if isinstance(study, Study) and _can_live():
        study.dashboard().show()
        return
    from IPython.display import publish_display_data

    publish_display_data(study._repr_mimebundle_())


def _can_live() -> bool:
    """Whether this is a notebook's kernel, with widgets."""
    try:
        import anywidget  # noqa: F401
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
