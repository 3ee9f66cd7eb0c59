"""Synthetic samples that say so, and a user's own."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb import datasets

COLUMNS = [*datasets.INPUTS, *datasets.OUTPUTS]


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(0, 1000))
def test_synthetic_samples_have_five_inputs_and_three_outputs_within_limits(n, seed):
    x, y = datasets.make_fff(n, seed)
    assert (x.shape, y.shape) == ((n, 5), (n, 3))
    for name, limits in (datasets.INPUTS | datasets.OUTPUTS).items():
        column = x[name] if name in x else y[name]
        assert column.between(limits.low, limits.high).all()


def test_they_say_that_they_are_synthetic():
    for frame in datasets.make_fff():
        assert len(frame) == 120
        assert frame.attrs["source"].startswith("SYNTHETIC")
    assert "SYNTHETIC" in datasets.make_fff.__doc__
    assert seer.datasets is datasets


def test_the_seed_says_which():
    first, again, other = (pd.concat(datasets.make_fff(20, seed), axis=1) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_every_setting_matters():
    x, y = datasets.make_fff(2000)
    for name in x:
        middle = x[name] > x[name].median() if x[name].nunique() > 3 else x[name] == x[name].min()
        assert (y[middle].mean() - y[~middle].mean()).abs().div(y.std()).max() > 0.1


def written(tmp_path, change=lambda frame: frame):
    frame = pd.concat(datasets.make_fff(5), axis=1)
    path = tmp_path / "prints.csv"
    change(frame).to_csv(path, index=False)
    return path


def test_a_users_own_file_is_read(tmp_path):
    def more(frame):
        return frame[COLUMNS[::-1]].assign(operator="me")

    path = written(tmp_path, more)
    path.write_text("\ufeff" + path.read_text() + "\n,,,,,,,,\n")
    x, y = datasets.read_fff(path)
    for read, made in zip((x, y), datasets.make_fff(5), strict=True):
        assert np.array_equal(read, made)
        assert list(read) == list(made)
        assert read.attrs["source"] == str(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.drop(columns="porosity_percent"), "has the column 'porosity_percent' not: it must have each of"),
        (
            lambda f: f.rename(columns={"print_speed_mm_s": "layer_thickness_mm"}),
            "has the column 'layer_thickness_mm' twice",
        ),
        (lambda f: f.head(1), "holds 1 samples: at least 2 are needed"),
        (lambda f: f.head(0), "holds 0 samples"),
        (
            lambda f: f.assign(print_speed_mm_s="fast"),
            "column 'print_speed_mm_s' has 'fast' in line 2, which is no number: give a number from 1 to 1000",
        ),
        (lambda f: f.assign(porosity_percent=np.nan), "column 'porosity_percent' has '' in line 2, which is no number"),
        (lambda f: f.assign(tensile_strength_mpa="nan"), "'nan' in line 2, which is out of bounds"),
        (
            lambda f: f.assign(layer_thickness_mm=[0.1, 0.1, 200, 0.1, 0.1]),
            "column 'layer_thickness_mm' has '200.0' in line 4, which is out of bounds: give a number from 0.01 to 5",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_said(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        datasets.read_fff(written(tmp_path, change))


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(TypeError, match="path=3 is not a path"):
        datasets.read_fff(3)
    with pytest.raises(FileNotFoundError):
        datasets.read_fff(tmp_path / "none.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="but has no columns"):
        datasets.read_fff(tmp_path / "empty.csv")
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="is not a csv file of UTF-8 text"):
        datasets.read_fff(tmp_path / "picture.csv")
    with pytest.raises(ValueError, match="n=1: too small"):
        datasets.make_fff(1)
    with pytest.raises(TypeError, match="seed=None: not an integer"):
        datasets.make_fff(seed=None)
