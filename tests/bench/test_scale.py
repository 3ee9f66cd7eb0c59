"""The benchmark of scale measures valid studies."""

from collections import Counter

import pytest

from seer_nb.bench import _large
from seer_nb.bench._large import wide
from seer_nb.runner import journal_writer
from seer_nb.storage.journal import Journal
from seer_nb.storage.layout import JOURNAL
from seer_nb.storage.replay import JournalView


def test_long_journal_replays_with_and_without_a_snapshot(tmp_path):
    stream = _large.write_long_journal(tmp_path / JOURNAL, 3000, 1000, 20, 4)
    journal = Journal(tmp_path / JOURNAL)
    assert journal_writer.write_snapshot(tmp_path) == 3000
    _large.append_records(journal, stream, 1000)
    view, whole = JournalView(journal), JournalView(journal, use_snapshot=False)
    assert view.state().trials == whole.state().trials
    assert vars(view.history) == vars(whole.history)
    assert (view.seq, view.snapshot_seq) == (4000, 3000)
    kinds = Counter(type(entry.record).__name__ for entry in journal.read())
    assert kinds["Reported"] > 0.85 * 4000
    assert all(trial.epoch > 100 for trial in view.state().trials.values())
    journal.close()


@pytest.mark.slow
def test_wide_study_is_simulated_written_and_rendered():
    figures = {figure.what: figure for figure in wide(quick=True)}
    assert figures["started trials"].value == 400
    assert figures["workers in parallel, maximum"].value == 80
    assert figures["spending over the budget"].value == 0
    assert figures["journal"].value > 0.1
