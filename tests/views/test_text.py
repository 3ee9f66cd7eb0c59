"""Text views of a study."""

from seer_nb import core
from seer_nb.views.text import format_progress, format_summary
from tests.support.records import Builder, big_study, small_study

SUMMARY = """\
study digits: running, 11 s of 10 min - 2 survivors
money: $0.019 spent, $0.06 committed, $0.421 free of $0.50
trials: 2 of 4 in the running; 2/2 workers busy
best accuracy: 0.9 (trial 1, epoch 2)
trial    state  accuracy  best_epoch  epochs  workers    cost    lr   act
    1  running       0.9           2       3        2  $0.006  0.01  tanh
    0  stopped       0.6           2       2        0  $0.002   0.1  relu
    2   failed       0.2           1       1        0  $0.001   0.5  relu
    3  waiting         -           -       0        0   $0.00  0.02  relu"""


def test_summary_of_a_small_study():
    study = small_study()
    study.apply(core.Note(reason="2 survivors"))
    assert format_summary(study.state).replace("\N{EN DASH}", "-") == SUMMARY


def test_summary_of_an_ended_study_has_trial_states_and_no_workers():
    study = small_study().apply(core.BeginEnd(reason="the deadline was reached")).apply(core.Finish())
    lines = format_summary(study.state).splitlines()
    assert lines[0] == "study digits: ended, 11 s of 10 min - the deadline was reached"
    assert lines[2] == "trials: 1 waiting, 1 running, 1 stopped, 1 failed"
    assert lines[4].split() == ["trial", "state", "accuracy", "best_epoch", "epochs", "cost", "lr", "act"]
    assert lines[5].split() == ["1", "running", "0.9", "2", "3", "$0.006", "0.01", "tanh"]


def test_empty_study():
    state = Builder().state
    assert format_summary(state).splitlines()[-1] == "best accuracy: none yet"
    assert format_progress(state) == (
        "0 s of 10 min | no accuracy yet | $0.00 of $0.50 | 0 trials, 0 left | 0/0 workers busy"
    )


def test_progress_line_is_one_line():
    study = small_study()
    assert format_progress(study.state) == (
        "11 s of 10 min | accuracy 0.9 | $0.019 of $0.50 | 4 trials, 2 left | 2/2 workers busy"
    )
    study.machine(2, 12.0).apply(core.Pause())
    line = format_progress(study.state)
    assert line.startswith("pausing, 12 s of 10 min")
    assert "2/2 workers busy, 1 booting" in line


def test_summary_of_a_big_study_shows_ten_trials_and_counts_the_rest():
    lines = format_summary(big_study().state).splitlines()
    assert len(lines) == 4 + 1 + 10 + 1
    assert lines[-1] == "... and 50 more"


def test_wide_tables_are_cut_and_control_characters_replaced():
    study = Builder().draw({f"parameter_{k}": "\x1b[31m" + "x" * 40 for k in range(20)})
    study.apply(core.Note(reason="line one\nline \x07two"))
    text = format_summary(study.state)
    assert max(map(len, text.splitlines())) <= 110
    assert "parameter_0" in text
    assert "?[31m" in text
    assert "line one line ?two" in text
    assert text.replace("\n", "").isprintable()
