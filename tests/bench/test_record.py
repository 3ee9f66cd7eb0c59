"""Recording of curves: determinism, continuation after Ctrl-C, and the quality of the shipped tables."""

import io
import json
import signal

import numpy as np
import pandas as pd
import pytest

from seer_nb.bench import __main__ as bench
from seer_nb.bench import record
from seer_nb.bench.tasks import TASKS
from seer_nb.search_space import Space
from seer_nb.simulate.curve_files import CURVES, CurveFile, metadata

pytestmark = pytest.mark.slow

METADATA = {"task", "about", "metric", "mode", "max_epochs", "seed", "space", "data", "licence", "versions"}
SMALL = ("--configurations", "2", "--epochs", "2")
QUICK = ("--task", "gapminder_mlp")
CAP = 10
SHIPPED = record.shipped_tables()


def command(out, *arguments):
    return bench.main(["record", "--out", str(out), *arguments])


def frame(out, name="gapminder_mlp"):
    return pd.read_parquet(out / f"{name}.parquet")


def without_seconds(table):
    return table.drop(columns="epoch_seconds")


def losses(name):
    """Return losses of a shipped table: one row per trial, one column per epoch, infinite after divergence."""
    table = pd.read_parquet(SHIPPED[name])
    sign = 1 if TASKS[name].mode == "min" else -1
    wide = table.pivot_table(index="trial", columns="epoch", values="value", dropna=False)
    return (sign * wide).fillna(np.inf)


def at_trial(number, act):
    """Return the task with a function that first calls ``act`` in one trial."""
    task = TASKS["gapminder_mlp"]

    def train(config, run):
        if run.trial == number:
            act()
        task.train(config, run)

    return task._replace(train=train)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with a small recording of every task."""
    out = tmp_path_factory.mktemp("small")
    assert command(out, *SMALL) == 0
    return out


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_recorded(small, name):
    table = frame(small, name)
    config = [f"config_{key}" for key in TASKS[name].space]
    assert list(table.columns) == ["trial", "epoch", "value", "test_value", "epoch_seconds", *config]
    assert table[["trial", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert (table.epoch_seconds > 0).all()
    assert metadata(small / f"{name}.parquet").keys() == METADATA


def test_same_seed_gives_the_same_values_in_any_recording(small, tmp_path):
    assert command(tmp_path, *QUICK, "--configurations", "3", "--epochs", "2") == 0
    again = without_seconds(frame(tmp_path))
    pd.testing.assert_frame_equal(again[again.trial < 2], without_seconds(frame(small)))


def test_another_seed_gives_other_values(small, tmp_path):
    assert command(tmp_path, *QUICK, *SMALL, "--seed", "1") == 0
    assert set(frame(tmp_path).value).isdisjoint(frame(small).value)
    assert set(frame(tmp_path).config_lr).isdisjoint(frame(small).config_lr)


def test_number_of_processes_does_not_change_values(small, tmp_path):
    assert command(tmp_path, *QUICK, *SMALL, "--processes", "2") == 0
    pd.testing.assert_frame_equal(without_seconds(frame(tmp_path)), without_seconds(frame(small)))


def test_ctrl_c_keeps_finished_curves(small, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setitem(TASKS, "gapminder_mlp", at_trial(1, lambda: signal.raise_signal(signal.SIGINT)))
        assert command(tmp_path, *QUICK, *SMALL) == 130
    assert "run the same command again to continue" in capsys.readouterr().err
    kept = frame(tmp_path)
    assert set(kept.trial) == {0}
    # Its measured seconds would differ if it were trained again.
    assert command(tmp_path, *QUICK, *SMALL) == 0
    whole = frame(tmp_path)
    pd.testing.assert_frame_equal(whole[whole.trial == 0], kept)
    pd.testing.assert_frame_equal(without_seconds(whole), without_seconds(frame(small)))


def test_finished_curves_are_not_trained_again(tmp_path):
    assert command(tmp_path, *QUICK, *SMALL) == 0
    path = tmp_path / "gapminder_mlp.parquet"
    before = path.stat().st_mtime_ns
    assert command(tmp_path, *QUICK, "--configurations", "1", "--epochs", "2") == 0
    assert path.stat().st_mtime_ns == before


def test_diverged_trial_ends_with_nan(tmp_path, monkeypatch):
    task = TASKS["gapminder_mlp"]
    hot = task._replace(space=task.space | {"lr": 1e30, "optimizer": "sgd", "depth": 2})
    monkeypatch.setitem(TASKS, "gapminder_mlp", hot)
    assert command(tmp_path, *QUICK, "--configurations", "1", "--epochs", "5") == 0
    assert frame(tmp_path).value.isna().tolist() == [True]


def test_recordings_with_other_settings_share_no_file(small, capsys):
    assert command(small, *QUICK, "--configurations", "3", "--epochs", "3") == 1
    output = capsys.readouterr().err
    assert "recorded with max_epochs='2', not '3'" in output
    assert "remove the file, or give another --out" in output


def test_foreign_file_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "gapminder_mlp.parquet").write_text("mine")
    assert command(tmp_path, *QUICK, *SMALL) == 1
    assert "not a curve table" in capsys.readouterr().err
    assert (tmp_path / "gapminder_mlp.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--configurations", "0"], "argument --configurations: '0' must be an integer >= 1"),
        (["--epochs", "x"], "argument --epochs: 'x' must be an integer >= 1"),
        (["--processes", "-1"], "argument --processes: '-1' must be an integer >= 1"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--task", "x"], "argument --task: invalid choice: 'x'"),
    ],
)
def test_invalid_arguments_are_explained(tmp_path, capsys, arguments, expected):
    with pytest.raises(SystemExit):
        command(tmp_path, *arguments)
    assert expected in capsys.readouterr().err


def test_out_must_not_be_a_file(tmp_path, capsys):
    path = tmp_path / "file"
    path.touch()
    assert command(path, *QUICK, *SMALL) == 1
    assert str(path) in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_that_ends():
    sink = Terminal()
    progress = record.Progress("task", 1, 4, sink)
    progress.advance()
    progress.close()
    assert str(progress).startswith("task [###############...............] 2/4, ")
    assert sink.getvalue().startswith("\rtask")
    assert sink.getvalue().count("\n") == 1


# --- shipped tables ---


def test_all_tasks_ship_and_are_small():
    assert SHIPPED.keys() == TASKS.keys()
    assert all(path.parent == CURVES for path in SHIPPED.values())
    assert sum(path.stat().st_size for path in SHIPPED.values()) < 5e6


@pytest.mark.parametrize("name", TASKS)
class TestShipped:
    def test_metadata_match_the_task(self, name):
        task, recorded = TASKS[name], metadata(SHIPPED[name])
        assert recorded.keys() == METADATA
        assert (recorded["task"], recorded["metric"], recorded["mode"]) == (name, task.metric, task.mode)
        assert (recorded["space"], recorded["data"]) == (repr(Space(task.space)), task.data)
        assert (recorded["max_epochs"], recorded["seed"]) == (str(task.max_epochs), "0")
        assert json.loads(recorded["versions"]).keys() == {"python", "seer_nb", "torch", "numpy", "scikit-learn"}

    def test_curves_are_complete(self, name):
        table, task = pd.read_parquet(SHIPPED[name]), TASKS[name]
        assert table.trial.nunique() == task.configurations >= 300
        assert (table.epoch_seconds > 0).all()
        for _, curve in table.groupby("trial"):
            assert curve.epoch.tolist() == list(range(1, len(curve) + 1))
            assert curve.value[:-1].notna().all()
            # A curve ends early only on divergence.
            assert len(curve) == task.max_epochs or curve.value.isna().iloc[-1]
        top = 1 if task.metric == "accuracy" else CAP
        for column in (table.value.dropna(), table.test_value.dropna()):
            assert column.between(0, top).all()

    def test_configurations_are_in_the_space(self, name):
        table, space = pd.read_parquet(SHIPPED[name]).drop_duplicates("trial"), Space(TASKS[name].space)
        assert len(space.domains) >= 6
        for key, domain in space.domains.items():
            column = table[f"config_{key}"]
            if hasattr(domain, "options"):
                assert set(column) == set(domain.options)
            else:
                assert column.between(domain.low, domain.high).all()

    def test_good_configurations_are_few_and_distinguishable(self, name):
        best = losses(name).min(axis=1).sort_values()
        near = best.iloc[0] + 0.1 * (best.median() - best.iloc[0])
        assert (best < near).mean() < 0.1
        tenth = len(best) // 10
        assert best.iloc[:tenth].nunique() > 0.9 * tenth

    def test_early_values_predict_poorly(self, name):
        found = losses(name)
        ranks = found.rank()
        assert 0.3 < ranks[1].corr(ranks[TASKS[name].max_epochs]) < 0.9
        good = found.min(axis=1).nsmallest(len(found) // 20).index
        assert ranks.loc[good, 1].max() > len(found) / 4

    def test_curves_are_reproducible(self, name, tmp_path):
        table = pd.read_parquet(SHIPPED[name])
        # The smallest learning rate amplifies rounding differences of other computers least.
        row = table.loc[table.config_lr.idxmin()]
        file = CurveFile(tmp_path / "new.parquet", TASKS[name], epochs=1, seed=0)
        config = file.config(row.trial)
        assert config == {key: row[f"config_{key}"] for key in config}
        _, (point,) = record.train(record.Job(name, int(row.trial), config, epochs=1, seed=file.seed))
        assert (point.value, point.test_value) == pytest.approx((row.value, row.test_value), rel=1e-3)
