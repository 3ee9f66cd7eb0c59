"""The history of a study: reduced from its records, and equal after each replay."""

from seer_nb import core
from seer_nb.core.history import History, step_value_at
from tests.support.records import Builder, small_study


def log_lines(study):
    return [(entry.kind, entry.trial, entry.text, entry.reason) for entry in study.history.log]


def test_decisions_are_logged_with_their_reasons():
    study = small_study()
    lines = log_lines(study)
    assert ("decision", None, "machine 0 (local) is rented", "the plan wants a worker") in lines
    assert ("decision", 0, "trial 0 trains on 1 worker up to epoch 9", "it is next") in lines
    assert ("decision", 0, "trial 0 stopped", "ranked 2nd of 2 at epoch 2") in lines
    assert ("fault", 2, "trial 2 failed", "train raised") in lines
    assert ("decision", 1, "trial 1 trains on 2 workers up to epoch 9", "it is next") in lines


def test_commands_are_logged_and_marked():
    study = small_study()
    study.apply(core.SetBudget(budget_micro=700_000), 20.0).apply(core.SetDeadline(deadline_s=90.0), 21.0)
    study.apply(core.Pin(trial=1)).apply(core.StopTrial(trial=3)).apply(core.Pause(), 22.0)
    assert [mark.text for mark in study.history.marks] == [
        "budget set to $0.70",
        "deadline set to 1 min 30 s",
        "paused",
    ]
    assert ("command", 1, "trial 1 pinned", "") in log_lines(study)
    assert ("command", 3, "trial 3 stopped by hand", "") in log_lines(study)
    assert study.history.budgets == [(0.0, 500_000), (20.0, 700_000)]
    assert study.history.deadlines == [(0.0, 600.0), (21.0, 90.0)]


def test_history_holds_the_budget_that_was_applied():
    study = small_study().apply(core.SetBudget(budget_micro=1), 20.0)
    assert study.history.budgets[-1][1] == study.state.budget_micro > 1


def test_equal_plan_texts_are_logged_once_and_wanted_workers_are_kept():
    study = Builder()
    for workers, reason in ((2, "2 survivors"), (3, "2 survivors"), (3, "1 survivor")):
        study.apply(core.Note(reason=reason, workers=workers), study.now_s + 1)
    assert [entry.reason for entry in study.history.log] == ["2 survivors", "1 survivor"]
    assert study.history.wanted_workers == [(0.0, 0), (1.0, 2), (2.0, 3)]


def test_history_holds_the_workers_of_each_trial():
    study = small_study()
    history = study.history
    assert [size for _, size in history.workers[1]] == [2]
    assert [size for _, size in history.workers[0]] == [1, 0]
    assert step_value_at(history.training_workers, study.now_s) == 2
    assert step_value_at(history.ready_workers, study.now_s) == 2
    assert step_value_at(history.ready_workers, 1.0) == 0


def test_losses_and_a_new_runner_are_logged_as_faults():
    study = small_study()
    study.apply(core.MachineEnded(machine=1, expected=False, reason="killed"), 20.0)
    assert study.history.losses == [20.0]
    assert ("fault", None, "machine 1 was lost", "killed") in log_lines(study)
    study.apply(core.RunnerStarted(unseen_s=30.0), 25.0)
    assert log_lines(study)[-1][2] == "a new runner started, 30 s after the last record of the previous one"
    assert step_value_at(study.history.training_workers, 25.0) == 0
    assert step_value_at(study.history.workers[1], 25.0) == 0


def test_replay_of_the_records_gives_the_same_history():
    study = small_study()
    again, state = History(), type(study.state)(study.settings)
    for _, at_s, record in study.records:
        state.apply(record, at_s)
        again.add(record, state)
    assert vars(again) == vars(study.history)


def test_number_of_spending_samples_is_bounded():
    study = Builder(deadline_s=100.0, budget_micro=10**9).machine(0, 0.0, 1.0).draw({"k": 1})
    study.start(0, 0, "0.0", until=5000).report(0, *([0.5] * 4000))
    spent = study.history.spent
    assert 100 < len(spent) <= 801
    assert spent == sorted(spent)
    assert [money for _, money in spent] == sorted(money for _, money in spent)
