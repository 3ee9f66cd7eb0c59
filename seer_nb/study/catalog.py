"""Open one study of the studies' folder, or list all of them."""

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

    Args:
        name: Name of the study, a folder in ./seer_studies or SEER_HOME.

    Raises:
        StudyNotFoundError: There is no study of that name.
        SeerError: The study's journal is damaged.

    Example:
        >>> study = seer.attach("digits")
    """
    folder = layout.study_folder(check_name(name))
    if not (folder / layout.JOURNAL).exists():
        there = study_names()
        known, meant = ", ".join(map(repr, there)) or "none", did_you_mean(name, there)
        raise StudyNotFoundError(f"name={name!r} is not a study in {folder.parent}{meant}: there are {known}")
    return Study.from_folder(folder)


def trust(name: str) -> Study:
    """Trust a study's folder that came from another computer or user, so that the study can be resumed.

    From then on seer_nb runs the folder's function and other pickled objects, so check its source first: anybody who
    could write to the folder decides what they do. Other users lose all rights in the folder.

    Args:
        name: Name of the study.

    Raises:
        StudyNotFoundError: There is no study of that name.
        UntrustedError: A file in the folder belongs to another user; copy the folder first.
    """
    study = attach(name)
    folder = layout.home() / name
    signing.make_private(folder)
    layout.sign(folder)
    return study


def studies() -> pd.DataFrame:
    """Return one row per study in the studies' folder.

    Returns:
        Columns name, status, trials, metric, value (the best one), spent_usd, elapsed_s. A study whose journal cannot
        be read has the status "unreadable"; ``attach`` raises the reason.
    """
    import pandas as pd

    columns = ["name", "status", "trials", "metric", "value", "spent_usd", "elapsed_s"]
    return pd.DataFrame([_row(name) for name in study_names()], columns=columns)


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
            "spent_usd": state.ledger.spent_micro(state.now_s) / MICRO,
            "elapsed_s": state.now_s,
        }
    except Exception as error:  # noqa: BLE001 - whatever one folder holds must not hide the other studies
        if not isinstance(error, SeerError):  # unforeseen, so perhaps a defect of seer_nb
            logger.warning("study %r cannot be read: %s: %s", name, type(error).__name__, one_line(str(error)))
        return {"name": name, "status": "unreadable", "trials": 0, "metric": ""}


def study_names() -> list[str]:
    """Return the names of all studies in the studies' folder, sorted."""
    # seer_nb never creates folders with other names.
    return sorted(path.parent.name for path in layout.home().glob(f"*/{layout.JOURNAL}") if is_name(path.parent.name))
