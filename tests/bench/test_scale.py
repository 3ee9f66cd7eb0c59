"""What the bench of scale measures is what it says."""

from collections import Counter

from seer_nb.bench import _large
from seer_nb.bench._large import wide
from seer_nb.runner import journal_writer
from seer_nb.storage.journal import Journal
from seer_nb.storage.layout import JOURNAL
from seer_nb.storage.replay import JournalView


def test_a_journal_of_many_events_is_one_of_a_study(tmp_path):
    stream = _large.make(tmp_path / JOURNAL, 3000, 1000, 20, 4)
    journal = Journal(tmp_path / JOURNAL)
    assert journal_writer.write_snapshot(tmp_path) == 3000
    _large.append(journal, stream, 1000)
    view, whole = JournalView(journal), JournalView(journal, resume=False)
    assert view.state().trials == whole.state().trials
    assert vars(view.history) == vars(whole.history)
    assert (view.seq, view.resumed) == (4000, 3000)
    kinds = Counter(type(entry.record).__name__ for entry in journal.read())
    assert kinds["Reported"] > 0.85 * 4000
    assert all(trial.epoch > 100 for trial in view.state().trials.values())
    journal.close()


def test_a_wide_study_is_driven_written_and_looked_at():
    figures = {figure.what: figure for figure in wide(quick=True)}
    assert figures["trials that were begun"].value == 400
    assert figures["workers at a time, at most"].value == 80
    assert figures["spent beyond the budget"].value == 0
    assert figures["journal"].value > 0.1
