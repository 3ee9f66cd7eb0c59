"""What a machine is told when it is launched arrives there, and is seen by nobody else on this computer."""

import seer_nb as seer
from seer_nb.providers.vm import bootstrap, tls
from tests.support.arguments import seen
from tests.support.loopback_fleets import provider
from tests.support.small_engine import Simple

ODD = 'it\'s $5 "x" `y` \\z \u20ac\n two'


def train(config, run):
    import os

    for _ in run.epochs():
        # The metric says which: nothing else of a machine's surroundings is sent back.
        run.report(same=float(os.environ["ODD"] == config["odd"]))


def test_a_studys_key_and_variables_reach_its_machines_and_no_process_is_seen_with_them(cloud, home):
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
    secret = [bootstrap.config(pem, role) for role in ("scheduler", "worker")] + [pem.key, ODD, '$5 "x"']
    assert any(b"distributed.cli.dask_spec" in each for each in arguments), "nobody has looked"
    assert any(b"shims.py\0docker" in each for each in arguments), "nobody has looked quickly"
    for text in secret:
        assert not [each for each in arguments if text.encode() in each]
    for machine in cloud.machines():
        assert "INHERIT_CONFIG" in (machine.folder / "user-data").read_text()
        assert machine.folder.stat().st_mode & 0o077 == 0
