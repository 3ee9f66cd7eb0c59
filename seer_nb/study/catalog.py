"""The studies in the studies' folder: open one, list all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from seer_nb._utils.text import one_line
from seer_nb._utils.units import MICRO
from seer_nb._utils.validation import did_you_mean
from seer_nb.errors import SeerError, StudyNotFoundError
from seer_nb.storage import layout, signing
from seer_nb.study.settings import check_name, is_name
from seer_nb.study.study import Study

if TYPE_CHECKING:
    import pandas as pd


logger = logging.getLogger(__name__)


def attach(name: str) -> Study:
    """Open a study that was started before, in this process or another one.

    Raises:
        StudyNotFoundError: No study of that name lies in the studies' folder.
    """
    folder = layout.home() / check_name(name)
    if not (folder / layout.JOURNAL).exists():
        there = names()
        known, meant = ", ".join(map(repr, there)) or "none", did_you_mean(name, there)
        raise StudyNotFoundError(f"name={name!r} is not a study in {folder.parent}{meant}: there are {known}")
    return Study._attached(folder)  # noqa: SLF001 - of the same family


def trust(name: str) -> Study:
    """Make a study's folder yours that was moved here from another computer or user, so that it can be resumed.

    From then on its function and its other pickled objects are run as your own. So look where it comes from first:
    whoever could write to the folder decides what they do. Others lose all rights in the folder.

    Raises:
        StudyNotFoundError: No study of that name lies in the studies' folder.
        UntrustedError: Something in it belongs to another user: make a copy.
    """
    study = attach(name)
    folder = layout.home() / name
    signing.make_private(folder)
    layout.seal(folder)
    return study


def studies() -> pd.DataFrame:
    """A row a study in the studies' folder: name, status, trials, best value, money spent, seconds used.

    One whose journal cannot be read has the status "unreadable" and nothing else; ``attach`` tells why.
    """
    import pandas as pd

    columns = ["name", "status", "trials", "metric", "value", "spent_usd", "elapsed_s"]
    return pd.DataFrame([_row(name) for name in names()], columns=columns)


def _row(name: str) -> dict[str, Any]:
    try:
        study = attach(name)
        state, top = study.state, study.best
        return {
            "name": name,
            "status": study.status,
            "trials": len(state.trials),
            "metric": state.settings.metric,
            "value": None if top is None else top.value,
            "spent_usd": state.ledger.spent(state.now_s) / MICRO,
            "elapsed_s": state.now_s,
        }
    except Exception as error:  # noqa: BLE001 - whatever somebody has put into one folder must not hide the others
        if not isinstance(error, SeerError):  # nothing that is foreseen, so perhaps a defect of ours
            logger.warning("study %r cannot be read: %s: %s", name, type(error).__name__, one_line(str(error)))
        return {"name": name, "status": "unreadable", "trials": 0, "metric": ""}


def names() -> list[str]:
    """Of the studies in the studies' folder."""
    # Folders that are called otherwise are none of ours.
    return sorted(path.parent.name for path in layout.home().glob(f"*/{layout.JOURNAL}") if is_name(path.parent.name))
