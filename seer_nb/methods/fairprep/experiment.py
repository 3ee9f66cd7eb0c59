"""An experiment: all combinations of some components, on some data, for some seeds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from seer_nb._utils.text import show
from seer_nb._utils.units import MICRO, parse_duration
from seer_nb._utils.validation import real, whole
from seer_nb.methods.fairprep.components import Interventions, components
from seer_nb.methods.fairprep.errors import need_fairlearn
from seer_nb.methods.fairprep.lifecycle import Work
from seer_nb.methods.fairprep.result import FairResult, Origin
from seer_nb.methods.fairprep.splits import TEST, VALIDATION, SealedTest, Visible, split
from seer_nb.methods.fairprep.study_backend import Terms, collect, sealed_of, selection_file, study_of
from seer_nb.methods.fairprep.table import Table
from seer_nb.methods.study_backed import Running

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    import pandas as pd

    from seer_nb.methods.fairprep.lifecycle import Place, Record
    from seer_nb.providers.base import Provider
    from seer_nb.study.study import Study


class Experiment(Running[Work, FairResult]):
    """Lifecycles of a binary classifier and its fairness interventions (FairPrep: Schelter et al., EDBT 2020).

    For each seed the examples are divided at random into training, validation and test examples. Handler of missing
    values, scaler, encoder, pre-processor and learner are fitted on training examples alone, post-processors on
    validation examples; a setting is selected on validation examples. Test examples are sealed until then, and measure
    what was selected only.

    With a provider it is a study: ``start()`` it and ``wait()`` for the result, also in another process, where
    ``Experiment.attach(name)`` opens it. Its folder keeps the test examples, and the selection that has unsealed them.

    Components are given by name or as objects of one's own; see ``parts.KINDS`` and the protocols beside it.

    Args:
        data: A row an example. Numbers are taken as they are, all else as categories.
        label: Column of the label.
        positive: Its favourable value.
        protected: Column that tells the groups. It stays a feature, as 1 for privileged and 0, unless dropped.
        privileged: Its value for the privileged group, or a list of such values.
        drop: Columns that are no features.
        handlers: Of missing values: "complete_case", "mode", "iterative", "knn".
        scalers: Of numbers: "none", "standard", "minmax".
        preprocessors: "none", "reweighing", "di_remover_0.5", "di_remover_1", ``DisparateImpactRemover(level)``.
        learners: "logistic_regression", "decision_tree", and both with "_tuned".
        postprocessors: "none", "reject_option", "equalized_odds", "calibrated_equalized_odds".
        interventions: Pairs (preprocessor, postprocessor) instead of all combinations of these two.
        seeds: Of splits, learners and post-processors; everything is done for each.
        test: Share of test examples.
        validation: Share of validation examples.
        provider: Whose workers do it, as a ``seer_nb.Study`` with a dashboard, such as ``seer.Local()``. Default: this
            process.
        deadline: A length of time; needed with a provider. What was done by then is the result.
        budget: Dollars; needed with a provider.
        workers: At most so many of the provider's.
        name: Of the study. Default: with the time.
        store: Of the study's checkpoints, through which results come; an fsspec URL if the workers are elsewhere.

    Raises:
        TypeError, ValueError: For what cannot be; the sentence names the argument.
        SeerError: fairlearn is not installed.
    """

    _of = Work
    _word = "experiment"
    _deadline_s: float | None = None
    """In this process."""

    def __init__(  # noqa: PLR0913 - the public face
        self,
        data: pd.DataFrame,
        label: str,
        positive: Any,
        protected: str,
        privileged: Any,
        *,
        drop: Sequence[str] = (),
        handlers: Iterable[Any] = ("mode",),
        scalers: Iterable[Any] = ("standard",),
        preprocessors: Iterable[Any] = ("none",),
        learners: Iterable[Any] = ("logistic_regression_tuned",),
        postprocessors: Iterable[Any] = ("none",),
        interventions: Iterable[tuple[Any, Any]] | None = None,
        seeds: Iterable[int] = (0,),
        test: float = TEST,
        validation: float = VALIDATION,
        provider: Provider | None = None,
        deadline: str | float | timedelta | datetime | None = None,
        budget: str | float | None = None,
        workers: int | None = None,
        name: str | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        need_fairlearn()
        table = Table.read(data, label, positive, protected, privileged, drop)
        shares = _share(test, "test"), _share(validation, "validation")
        if sum(shares) >= 1:
            raise ValueError(
                f"test={test} and validation={validation} leave nothing to train on: give less than 1 in all"
            )
        places = {seed: split(len(table), seed, *shares) for seed in _seeds(seeds)}
        chosen = (
            Interventions.product(preprocessors, postprocessors)
            if interventions is None
            else Interventions.pairs(interventions)
        )
        self._task = Work(
            Visible(table, places),
            components(handlers, "handlers"),
            components(scalers, "scalers"),
            components(learners, "learners"),
            chosen,
        )
        terms = _terms(provider, deadline, budget, workers, name, store)
        if terms is None:
            self._sealed = SealedTest(table, places)
            self._deadline_s = None if deadline is None else parse_duration(deadline, "deadline")
        else:
            self._study = study_of(self._task, table, places, terms)
            self._sealed = SealedTest(table, places, selection_file(self._study))

    @classmethod
    def _made(cls, task: Work, study: Study) -> Self:
        need_fairlearn()
        made = super()._made(task, study)
        made._sealed = sealed_of(study)  # noqa: SLF001 - the same class
        return made

    @property
    def work(self) -> Work:
        """All that must be known to do any of the runs."""
        return self._task

    @property
    def seeds(self) -> tuple[int, ...]:
        """In the order in which they were given."""
        return self._task.visible.seeds

    @property
    def n_runs(self) -> int:
        """Lifecycles, post-processors included."""
        return sum(len(self.work.settings(place)) for place in self.work.places(self.seeds))

    def __repr__(self) -> str:
        return f"Experiment({self.n_runs} runs, {len(self.seeds)} seeds)"

    def run(self) -> FairResult:
        """Do it all, and give the result."""
        if self._study is None:
            return self._run_here()
        if self._study.status == "created":
            self.start()
        return self.wait()

    def result(self) -> FairResult:
        """What the study has found so far; once it has ended, something can be selected.

        Raises:
            SeerError: There is no study, for there is no provider.
        """
        study = self.study
        status, state = study.status, study.state
        return self._result(
            collect(study),
            state.reason or f"it is {status}",
            wall_s=state.now_s,
            study=study,
            spent_usd=state.ledger.spent(state.now_s) / MICRO,
            ended=status in {"ended", "failed"},
        )

    def _run_here(self) -> FairResult:
        begun_s, records = time.monotonic(), {}
        for place in self.work.places(self.seeds):
            for record in self.work.do(place):
                records[place] = record
                if self._deadline_s is not None and time.monotonic() - begun_s >= self._deadline_s:
                    return self._result(records, "the deadline was reached", wall_s=time.monotonic() - begun_s)
        return self._result(records, "all runs are done", wall_s=time.monotonic() - begun_s)

    def _result(self, records: dict[Place, Record], reason: str, **more: Any) -> FairResult:
        return FairResult(Origin(self._task, self._sealed), records, reason, **more)


def _seeds(given: Any) -> tuple[int, ...]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"seeds={show(given)} is not a list: give one of whole numbers, such as range(16)")
    seeds = tuple(whole(seed, f"seeds[{place}]", 0) for place, seed in enumerate(given))
    if not seeds:
        raise ValueError(f"seeds={show(given)} is empty: give at least one whole number")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={show(given)} has one twice: give each once")
    return seeds


def _share(given: Any, name: str) -> float:
    return real(given, name, above=0.0, most=0.9)


def _terms(  # noqa: PLR0913, PLR0917 - what a study is told
    provider: Provider | None, deadline: Any, budget: Any, workers: int | None, name: str | None, store: Any
) -> Terms | None:
    if provider is None:
        for argument, value in {"budget": budget, "workers": workers, "name": name, "store": store}.items():
            if value is not None:
                raise ValueError(f"{argument}={show(value)} is of a study: give provider= too, such as seer.Local()")
        return None
    if not hasattr(provider, "fleet"):
        raise TypeError(f"provider={show(provider)} is no provider: give one such as seer.Local()")
    for argument, value in {"deadline": deadline, "budget": budget}.items():
        if value is None:
            hint = '"10min"' if argument == "deadline" else '"$0.50"'
            raise ValueError(
                f"{argument}=None goes with no provider: a study needs one, so give {argument}={hint} or so"
            )
    return Terms(provider, deadline, budget, workers, name, store)
