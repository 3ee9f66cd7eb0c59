"""Keys and variables reach a machine at its launch, and no other process on this computer can see them."""

import pytest

import seer_nb as seer
from seer_nb.providers.vm import bootstrap, tls
from tests.support.arguments import seen
from tests.support.loopback_fleets import provider
from tests.support.small_engine import Simple

pytestmark = pytest.mark.slow

ODD = 'it\'s $5 "x" `y` \\z \u20ac\n two'


def train(config, run):
    import os

    for _ in run.epochs():
        # The metric is the only thing that a machine sends back.
        run.report(same=float(os.environ["ODD"] == config["odd"]))


def test_keys_and_variables_reach_machines_and_are_hidden_from_ps(cloud, home):
    study = seer.Study(
        train,
        {"odd": seer.choice([ODD]), "x": seer.uniform(0, 1)},
        metric="same",
        mode="max",
        max_epochs=1,
        deadline="150s",
        budget="$0.5",
        provider=provider(cloud, env={"ODD": ODD}, max_machines=1),
        policy=Simple(trials=1, until=1, total=1),
        name="study",
        store=cloud.store,
    )
    with seen() as arguments:
        study.run()
    assert study.best.value == 1.0
    assert len(cloud.machines()) == 2
    pem = tls.load(study.folder).pem
    secret = [bootstrap.dask_config(pem, role) for role in ("scheduler", "worker")] + [pem.key, ODD, '$5 "x"']
    assert any(b"distributed.cli.dask_spec" in each for each in arguments), "the search must have seen the worker"
    assert any(b"shims.py\0docker" in each for each in arguments), "the search must have been fast enough"
    for text in secret:
        assert not [each for each in arguments if text.encode() in each]
    for machine in cloud.machines():
        assert "INHERIT_CONFIG" in (machine.folder / "user-data").read_text()
        assert machine.folder.stat().st_mode & 0o077 == 0
