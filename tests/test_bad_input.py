"""Bad input gets one sentence that names the argument, the value and what is allowed, before any machine is rented."""

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
import pytest

import seer_nb as seer
from seer_nb._utils.text import short_repr
from tests.support import refusals
from tests.support.records import Builder
from tests.support.refusals import DEADLINE, MONEY, TIME, Rents, make, raised, stored, train

SPACE = 'expected a dict such as {"lr": seer.loguniform(1e-4, 1e-1), "batch": seer.choice([32, 64]), "depth": 3}'
STORES = (
    ", with one of abfs, abfss, adl, az, dbfs, file, gcs, gs, hdfs, hf, lakefs, local, memory, oci, ocilake, oss, s3, "
    "s3a, sftp, ssh, tos, webhdfs"
)
STORE = 'expected a folder, or an fsspec URL such as "s3://bucket/folder"'
EPOCHS = "not a number of epochs; expected an integer from 1 to 1000000000"
SEED = "not a seed; expected an integer from 0 to 9223372036854775807"
NAME = "expected up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
METRIC = 'is not the name of a metric: give the keyword that train passes to run.report, such as "accuracy"'
MODE = 'is unknown: give "max" when more is better, or "min"'
POLICY = 'is not a policy: give a name such as "seer", or an object with decide(view)'
PROVIDER = "does not rent machines: give a provider such as seer.Local()"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Bad input leaves nothing behind."""
    return refusals.home(tmp_path, monkeypatch)


# --- the arguments of a study ---

NAIVE = datetime(2100, 1, 1)  # noqa: DTZ001 - that it has no time zone is the point
PAST = datetime(2020, 1, 1, tzinfo=UTC)
WORKERS = "not a number of workers; expected an integer from 1 to 100000"
BAD = [
    ("space", {}, ValueError, f"space={{}}: empty; {SPACE}"),
    ("space", None, TypeError, f"space=None: not a dict; {SPACE}"),
    ("space", [("lr", 1)], TypeError, f"space=[('lr', 1)]: not a dict; {SPACE}"),
    ("space", {3: 1}, TypeError, "space: the name 3 is of type int; expected names of type str"),
    ("metric", "", ValueError, f"metric='' {METRIC}"),
    ("metric", "val accuracy", ValueError, f"metric='val accuracy' {METRIC}"),
    ("metric", None, ValueError, f"metric=None {METRIC}"),
    ("mode", "maximum", ValueError, f"mode='maximum' {MODE}"),
    ("mode", None, ValueError, f"mode=None {MODE}"),
    ("mode", ["max"], ValueError, f"mode=['max'] {MODE}"),
    ("max_epochs", 0, ValueError, f"max_epochs=0: {EPOCHS}"),
    ("max_epochs", -3, ValueError, f"max_epochs=-3: {EPOCHS}"),
    ("max_epochs", 2.0, TypeError, f"max_epochs=2.0: {EPOCHS}"),
    ("max_epochs", True, TypeError, f"max_epochs=True: {EPOCHS}"),
    ("max_epochs", 10**30, ValueError, f"max_epochs={10**30}: {EPOCHS}"),
    ("deadline", 0, ValueError, f"deadline=0: not more than 0 seconds; {DEADLINE}"),
    ("deadline", "-5min", ValueError, f"deadline='-5min': not a length of time; {DEADLINE}"),
    ("deadline", -5, ValueError, f"deadline=-5: not more than 0 seconds; {DEADLINE}"),
    (
        "deadline",
        timedelta(seconds=-1),
        ValueError,
        f"deadline={timedelta(seconds=-1)!r}: not more than 0 seconds; {DEADLINE}",
    ),
    ("deadline", "soon", ValueError, f"deadline='soon': not a length of time; {DEADLINE}"),
    ("deadline", "inf", ValueError, f"deadline='inf': not a length of time; {DEADLINE}"),
    ("deadline", None, TypeError, f"deadline=None: not a length of time; {DEADLINE}"),
    ("deadline", PAST, ValueError, f"deadline={PAST!r}: has already passed; {DEADLINE}"),
    (
        "deadline",
        NAIVE,
        ValueError,
        (
            f"deadline={NAIVE!r}: has no time zone; expected an aware datetime such as "
            "datetime.now().astimezone() + timedelta(hours=1)"
        ),
    ),
    (
        "deadline",
        "3s",
        ValueError,
        "deadline='3s' is too short: a machine of 'local' takes about 6.5 s to boot, start and terminate",
    ),
    ("budget", 0, ValueError, f"budget=0: not more than 0; {MONEY}"),
    ("budget", "-$1", ValueError, f"budget='-$1': not more than 0; {MONEY}"),
    ("budget", "a dollar", ValueError, f"budget='a dollar': not an amount of money; {MONEY}"),
    ("budget", float("nan"), ValueError, f"budget=nan: not an amount of money; {MONEY}"),
    ("budget", "€5", ValueError, f"budget='€5': not an amount of money; {MONEY}"),
    ("budget", None, TypeError, f"budget=None: not an amount of money; {MONEY}"),
    ("seed", -1, ValueError, f"seed=-1: {SEED}"),
    ("seed", 0.5, TypeError, f"seed=0.5: {SEED}"),
    ("seed", None, TypeError, f"seed=None: {SEED}"),
    ("seed", 2**63, ValueError, f"seed={2**63}: {SEED}"),
    ("name", "", ValueError, f"name='' is not a name for a study; {NAME}"),
    ("name", "../up", ValueError, f"name='../up' is not a name for a study; {NAME}"),
    ("name", "a" * 101, ValueError, f"name='{'a' * 76}... is not a name for a study; {NAME}"),
    ("name", 7, ValueError, f"name=7 is not a name for a study; {NAME}"),
    (
        "policy",
        "hyperbandit",
        ValueError,
        (
            'policy=\'hyperbandit\': unknown policy (did you mean "hyperband"?); expected one of "seer", "asha", '
            '"halving", "hyperband", "hypersched", "rubberband", "naive_elastic", "random_search", "grid", or an '
            "object with decide(view)"
        ),
    ),
    ("policy", None, TypeError, f"policy=None {POLICY}"),
    ("policy", seer.SEER, TypeError, f"policy=<class 'seer_nb.policies.seer.SEER'> {POLICY}"),
    ("provider", "local", TypeError, f"provider='local' {PROVIDER}"),
    ("provider", seer.Local, TypeError, f"provider=<class 'seer_nb.providers.local.Local'> {PROVIDER}"),
    ("provider", Rents(offers=tuple), ValueError, "provider=Rents() offers no machines; expected at least one to rent"),
    (
        "provider",
        Rents(max_workers=0),
        ValueError,
        "provider=Rents() has max_workers=0; expected an integer from 1 to 100000",
    ),
    (
        "sampler",
        "tpe",
        TypeError,
        (
            "sampler='tpe': not an Optuna sampler; expected one such as optuna.samplers.TPESampler(seed=0), "
            "or None for random search"
        ),
    ),
    (
        "sampler",
        optuna.samplers.GridSampler({"depth": [1, 2]}),
        ValueError,
        "sampler: its grid has the names 'depth'; expected the searched names 'lr'",
    ),
    ("store", 3, TypeError, f"store=3 is not a place for checkpoints; {STORE}"),
    ("store", b"there", TypeError, f"store=b'there' is not a place for checkpoints; {STORE}"),
    ("store", " ", ValueError, f"store=' ' is empty; {STORE}"),
    ("store", "foo://there", ValueError, f"store='foo://there' is not a store that only holds files; {STORE}{STORES}"),
    ("store", "s3:/there/x", ValueError, "store='s3:/there/x' lacks a slash: did you mean 's3://there/x'?"),
    ("store", "file:/x", ValueError, "store='file:/x' lacks a slash: did you mean 'file:///x'?"),
    ("store", Path("s3://x"), ValueError, "store=PosixPath('s3:/x') lacks a slash: did you mean 's3://x'?"),
    ("store", "memory://there", ValueError, f"store='memory://there' is not shared between processes; {STORE}"),
    ("report_timeout", "0s", ValueError, f"report_timeout='0s': not more than 0 seconds; {TIME}"),
    ("report_timeout", "ages", ValueError, f"report_timeout='ages': not a length of time; {TIME}"),
    (
        "max_parallelism",
        0,
        ValueError,
        f"max_parallelism=0: {WORKERS}",
    ),
    (
        "max_parallelism",
        1.5,
        TypeError,
        f"max_parallelism=1.5: {WORKERS}",
    ),
    (
        "max_parallelism",
        True,
        TypeError,
        f"max_parallelism=True: {WORKERS}",
    ),
]


@pytest.mark.parametrize(("argument", "value", "error", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_a_study_refuses_invalid_arguments(home, argument, value, error, sentence):
    assert raised(error, make, **{argument: value}) == sentence
    assert not home.exists()


@pytest.mark.parametrize(("written", "meant"), [("serr", "seer"), ("ASHA", "asha"), ("randomsearch", "random_search")])
def test_a_misspelt_policy_gets_a_suggestion(written, meant):
    assert raised(ValueError, make, policy=written).startswith(
        f'policy={written!r}: unknown policy (did you mean "{meant}"?); expected one of "seer", '
    )
    assert raised(ValueError, make, policy="xyz").startswith("policy='xyz': unknown policy; expected one of ")


@pytest.mark.parametrize("store", ["here/s3:x", "s3:x", "a:/b", "/tmp/a::b"])
def test_a_folder_may_have_a_colon(store):
    make(store=store)


def test_the_studies_folder_may_have_two_colons(tmp_path, monkeypatch):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "a::b"))
    assert make().settings.store == str(tmp_path / "a::b" / "study" / "checkpoints")


UNUSABLE = [
    ("b\udcff", "not valid Unicode text"),
    ("y" * 256, "too long; a path may have 900 bytes, and each of its parts 255"),
    ("/".join(["x" * 200] * 5), "too long; a path may have 900 bytes, and each of its parts 255"),
    ("file/within", "'file' is not a folder"),
]


@pytest.mark.parametrize(("path", "problem"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_folders_that_cannot_hold_files_are_refused_by_the_name_of_their_argument(tmp_path, monkeypatch, path, problem):
    (tmp_path / "file").touch()
    problem = problem.replace("'file'", repr(str(tmp_path / "file")))
    assert raised(ValueError, make, store=path) == f"store={short_repr(path)}: {problem}; {STORE}"
    monkeypatch.setenv("SEER_HOME", path)
    sentence = f"SEER_HOME={short_repr(path)}: {problem}; expected a folder for studies"
    for act in (make, lambda: seer.attach("study"), seer.studies):
        assert raised(ValueError, act) == sentence


def test_folders_beyond_the_longest_path_of_sqlite_are_refused(tmp_path, monkeypatch):
    """Guards against "unable to open database file" at the start."""
    folder = tmp_path / ("x" * 200) / ("x" * (440 - len(str(tmp_path)) - 202))
    monkeypatch.setenv("SEER_HOME", str(folder))
    sentence = f"name='{'n' * 76}...: too long in the folder {short_repr(str(folder))}, because SQLite opens paths of "
    assert raised(ValueError, make, name="n" * 100).startswith(sentence)
    make(name="n" * 44).create_folder()
    assert raised(ValueError, make, name="n" * 45).startswith("name='nnn")
    monkeypatch.setenv("SEER_HOME", str(folder / ("y" * 60)))
    assert "too long for SQLite, which opens paths of at most 512 bytes" in raised(ValueError, make)


def test_limits_that_just_suffice_are_accepted():
    make(max_epochs=np.int64(1), seed=np.int32(7), deadline="6.6s", store="here", name="a" * 100, report_timeout=1)


def test_a_budget_too_small_for_one_epoch_is_refused():
    # A cent a second: three seconds to boot, three to begin and 30 of lease are 36 cents.
    provider = seer.Local(max_workers=1, price_per_hour=36)
    assert raised(ValueError, make, provider=provider, budget="$0.35") == (
        "budget='$0.35' is too small for one epoch of one trial: a machine of 'local' at $36.00 an hour "
        "can cost $0.36 until it has started and its lease of 30 s has expired"
    )
    make(provider=provider, budget="$0.36")


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"max_workers": 0}, ValueError, "max_workers=0: not a number of workers; expected an integer >= 1"),
        ({"max_workers": -2}, ValueError, "max_workers=-2: not a number of workers; expected an integer >= 1"),
        ({"max_workers": 1.5}, TypeError, "max_workers=1.5: not a number of workers; expected an integer >= 1"),
        ({"price_per_hour": "-$1"}, ValueError, f"price_per_hour='-$1': negative; {MONEY}"),
        ({"price_per_hour": "cheap"}, ValueError, f"price_per_hour='cheap': not an amount of money; {MONEY}"),
    ],
    ids=str,
)
def test_local_refuses_invalid_arguments(given, error, sentence):
    assert raised(error, seer.Local, **given) == sentence


@pytest.mark.parametrize(
    ("domain", "error", "sentence"),
    [
        (lambda: seer.loguniform(0, 1), ValueError, "low=0: has no logarithm; loguniform expects bounds > 0"),
        (lambda: seer.loguniform(-1, 1), ValueError, "low=-1: has no logarithm; loguniform expects bounds > 0"),
        (lambda: seer.lograndint(0, 8), ValueError, "low=0: below 1; lograndint expects bounds >= 1"),
        (lambda: seer.uniform(2, 1), ValueError, "low=2.0: above high=1.0; uniform expects low <= high"),
        (lambda: seer.randint(2, 1), ValueError, "low=2: above high=1; randint expects low <= high"),
        (lambda: seer.choice([]), ValueError, "options=[]: empty; expected at least one option"),
    ],
    ids=range(6),
)
def test_a_domain_refuses_invalid_arguments(domain, error, sentence):
    """The cell in which a space is written shows the error; test_space.py has all of them."""
    assert raised(error, lambda: make(space={"x": domain()})) == sentence


# --- names ---


def test_a_name_in_use_is_refused(home):
    (home / "study").mkdir(parents=True)
    sentence = (
        f"name='study' is already in use in {home}: seer.attach('study') opens that study; else choose another name, "
        'or give exist="resume" or exist="overwrite"'
    )
    assert raised(ValueError, make) == sentence


def test_a_name_taken_since_the_study_was_created_is_refused(home):
    study = make()
    (home / "study").mkdir(parents=True)
    assert raised(ValueError, study.start).startswith(f"name='study' is already in use in {home}: ")
    assert study.status == "created"
    assert list((home / "study").iterdir()) == []


def test_every_function_has_a_valid_default_name():
    def größe_2(config, run):  # noqa: PLC2401 - a name as people give it
        """Not of ASCII letters only."""

    names = [make(each, name=None).name for each in (größe_2, lambda config, run: None, functools.partial(train))]
    assert [name.rpartition("-")[0].rpartition("-")[0].rpartition("-")[0] for name in names] == [
        "gr-e-2",
        "lambda",
        "study",
    ]


@pytest.mark.parametrize(("made", "known"), [((), "none"), (("b", "a"), "'a', 'b'")])
def test_attach_to_an_unknown_name_lists_the_known_ones(home, made, known):
    for name in made:
        stored(Builder(), home / name)
    assert raised(seer.StudyNotFoundError, seer.attach, "digits") == (
        f"name='digits' is not a study in {home}: there are {known}"
    )


def test_attach_suggests_a_similar_name(home):
    stored(Builder(), home / "digits")
    assert raised(seer.StudyNotFoundError, seer.attach, "Digitz") == (
        f"name='Digitz' is not a study in {home} (did you mean 'digits'?): there are 'digits'"
    )


def test_attach_refuses_invalid_names():
    assert raised(ValueError, seer.attach, "../up") == f"name='../up' is not a name for a study; {NAME}"
    assert raised(ValueError, seer.attach, None) == f"name=None is not a name for a study; {NAME}"
