"""The extracts match the statistics that the authors report."""

import pytest

from seer_nb.methods import fairprep


def test_german_extract():
    data = fairprep.data.german().data
    assert data.shape == (1000, 21)
    assert (data.credit == "good").mean() == 0.7
    assert (data.sex == "female").sum() == 310
    assert not data.isna().any(axis=None)
    assert "personal_status" not in data
    assert fairprep.data.german(grouped=True).data.shape == (1000, 11)


def test_ricci_extract():
    data = fairprep.data.ricci().data
    assert data.race.value_counts().to_dict() == {"W": 68, "B": 27, "H": 23}
    passed = data.passed == "yes"
    assert passed.mean() == pytest.approx(0.475, abs=1e-3)
    assert passed[data.race == "W"].mean() == pytest.approx(0.603, abs=1e-3)
    assert passed[data.race != "W"].mean() == pytest.approx(0.300, abs=1e-3)


def test_adult_extract():
    data = fairprep.data.adult().data
    assert len(data) == 32561
    missing = data.isna()
    assert missing.sum()[lambda x: x > 0].to_dict() == {"workclass": 1836, "occupation": 1843, "native-country": 583}
    incomplete, rich, white = missing.any(axis=1), data.income == ">50K", data.race == "White"
    assert incomplete.sum() == 2399
    rates = {
        "rich, complete": (rich[~incomplete].mean(), 0.249),
        "rich, incomplete": (rich[incomplete].mean(), 0.139),
        "incomplete, white": (incomplete[white].mean(), 0.068),
        "incomplete, others": (incomplete[~white].mean(), 0.109),
        "no country, white": (missing["native-country"][white].mean(), 0.014),
        "no country, others": (missing["native-country"][~white].mean(), 0.042),
        "married, complete": ((data["marital-status"] == "Married-civ-spouse")[~incomplete].mean(), 0.466),
        "never married, incomplete": ((data["marital-status"] == "Never-married")[incomplete].mean(), 0.399),
    }
    assert {name: found == pytest.approx(known, abs=6e-4) for name, (found, known) in rates.items()} == dict.fromkeys(
        rates, True
    )
    assert "sex" not in data
    assert "race" not in fairprep.data.adult("sex").data
    with pytest.raises(ValueError, match="protected='age'"):
        fairprep.data.adult("age")
