"""Whole studies on the loopback cloud."""

import json
import time

import pytest

import seer_nb as seer
from seer_nb import core
from seer_nb.providers.vm import tls
from seer_nb.storage.journal import Journal
from seer_nb.storage.lock import runner_pid
from tests.support.effort import thorough
from tests.support.loopback_fleets import bill, living, numbered, provider
from tests.support.small_engine import Simple
from tests.support.studies import kill, processes
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def train(config, run):
    import time

    import torch

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer = run.prepare(model, optimizer)
    for epoch in run.epochs():
        loss = model(torch.ones(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(config["seconds"])
        run.report(accuracy=config["x"] * epoch)


def make(cloud, of=None, seconds=0.2, **changes):
    given = {
        "metric": "accuracy",
        "mode": "max",
        "max_epochs": 4,
        "deadline": "150s",
        "budget": "$0.5",
        "provider": of or provider(cloud),
        "policy": "random_search",
        "name": "study",
        "store": cloud.store,
    }
    return seer.Study(train, {"x": seer.uniform(0, 1), "seconds": seconds}, **{**given, **changes})


def records(study):
    return [(entry.at_s, entry.record) for entry in Journal(study.folder / "journal.sqlite").read()]


def of(study, kind):
    return [record for _, record in records(study) if isinstance(record, kind)]


def offers(study):
    """Return the study's offers by EC2's name of what is rented."""
    state = study.state
    return {f"{offer.kind}{' spot' if offer.spot else ''}": offer for offer in state.offers.values()}


def reports(study, count):
    return until(lambda: len(study.curves()) >= count, f"{count} reports")


def test_study_with_a_gang_across_machines_completes(cloud, home):
    study = make(cloud, policy=Simple(trials=1, p=2, until=4, total=2)).run()
    table = study.results()
    assert table.state.tolist() == ["completed", "completed"]
    assert table.max_parallelism.tolist() == [2, 2]
    # The ledger equals EC2's records, to the micro-dollar, and nothing is left there.
    spent = study.state.ledger.spent_micro(study.state.now_s)
    assert spent == bill(cloud, offers(study))
    assert study.spending().study_spent_usd.iloc[-1] == spent / 1e6
    assert not living(cloud)
    assert not any(machine.pids for machine in cloud.machines())
    assert not [process for process in processes(home) if "loopback" not in " ".join(process.cmdline())]
    # The best model can be loaded from the object store.
    import torch

    study.best.load(torch.nn.Linear(4, 1))
    # Secrets are in one file only.
    secrets = [tls.load(study.folder).pem.key, cloud.environment["AWS_ACCESS_KEY_ID"]]
    study.export("results.json")
    study.report("report.html")
    files = [path for path in (*study.folder.rglob("*"), home / "results.json", home / "report.html") if path.is_file()]
    for path in files:
        if path.name != tls.FILE:
            text = path.read_bytes()
            for secret in secrets:
                assert secret.encode() not in text
                assert json.dumps(secret).encode()[1:100] not in text


def test_machine_with_several_gpus_has_one_worker_per_gpu(cloud, home):
    policy = Simple(trials=1, p=4, until=2, total=1)
    study = make(
        cloud, provider(cloud, "g4dn.12xlarge", max_machines=1), policy=policy, max_epochs=2, budget="$2"
    ).run()
    assert study.results().max_parallelism.tolist() == [4]
    assert [machine.instance_type for machine in cloud.machines()] == ["t3.small", "g4dn.12xlarge"]
    assert of(study, core.StartGang)[0].workers == ("1.0", "1.1", "1.2", "1.3")


def test_preempted_or_lost_machines_cost_at_most_an_epoch(cloud, home):
    study = make(cloud, provider(cloud, spot=True), seconds=0.5, max_epochs=60).start()
    reports(study, 4)
    # With notice: training is saved and moved before the machine is preempted.
    cloud.interrupt(numbered(cloud, 1).instance_id, notice_s=60.0)
    until(lambda: of(study, core.MachineLeaving), "the notice")
    until(lambda: [e for e in of(study, core.MachineEnded) if e.machine == 1 and e.expected], "the machine's end")
    assert 0 < of(study, core.MachineLeaving)[0].left_s <= 60.0
    # Without notice: the loss is noticed within seconds.
    until(lambda: [machine for machine in study.state.live_machines.values() if machine.id == 3 and machine.ready_s])
    lost_s = time.monotonic()
    cloud.lose(numbered(cloud, 2).instance_id)
    until(lambda: [e for e in of(study, core.MachineEnded) if e.machine == 2], "the loss")
    assert time.monotonic() - lost_s < 5.0
    seen = len(study.curves())
    reports(study, seen + 2)
    study.stop()
    study.wait(30)
    curves = study.curves()
    for _, curve in curves.groupby("trial"):
        assert curve.epoch.tolist() == list(range(1, len(curve) + 1)), "an epoch is missing or duplicated"
    assert study.state.ledger.spent_micro(study.state.now_s) == bill(cloud, offers(study))
    assert not living(cloud)


def test_next_runner_adopts_machines_and_leases_expire_without_one(cloud, home):
    """The budget is so small that the lease has its minimum."""
    study = make(cloud, seconds=0.5, max_epochs=1000, budget="$0.02", policy=Simple(trials=2, until=1000)).start()
    reports(study, 4)
    before = {machine.instance_id for machine in living(cloud)}
    kill(runner_pid(study.folder))
    until(lambda: study.status == "interrupted")
    seen = len(study.curves())
    study.resume()
    reports(study, seen + 2)
    assert of(study, core.RunnerStarted)[-1].adopted == (0, 1, 2)
    assert {machine.instance_id for machine in living(cloud)} == before
    # Whatever has died, no machine outlives its lease.
    kill(runner_pid(study.folder))
    killed_s, lease_s = time.monotonic(), study.settings.lease_s
    assert lease_s == 30.0
    until(lambda: not living(cloud), "the expiry of all leases", killed_s + lease_s + 30.0 - time.monotonic())
    study.resume()
    until(lambda: study.status == "running")
    study.stop()
    study.wait(30)
    state = study.state
    real = bill(cloud, offers(study))
    assert real <= state.ledger.spent_micro(state.now_s) <= state.budget_micro


def test_study_restarts_from_checkpoints_after_losing_its_scheduler(cloud, home):
    study = make(
        cloud, provider(cloud, max_machines=1), seconds=0.3, max_epochs=1000, policy=Simple(until=1000)
    ).start()
    reports(study, 3)
    cloud.lose(numbered(cloud, 0).instance_id)
    until(lambda: len([a for a in of(study, core.StartGang) if a.from_epoch > 0]) > 0, "a start from a checkpoint")
    seen = len(study.curves())
    reports(study, seen + 2)
    study.stop()
    study.wait(30)
    assert [machine.instance_type for machine in cloud.machines()].count("t3.small") == 2
    (curve,) = [curve for _, curve in study.curves().groupby("trial")]
    assert curve.epoch.tolist() == list(range(1, len(curve) + 1))


def test_other_offers_are_tried_without_capacity_or_after_a_boot_timeout(cloud, home):
    cloud.faults.spot_capacity["*"] = 1000
    cloud.faults.capacity["c5.large"] = 1000
    chosen = provider(cloud, ["c5.large", "m5.large"], spot="mixed", max_machines=1, boot_timeout=20)
    study = make(cloud, chosen, max_epochs=2, policy=Simple(trials=1, until=2, total=2))
    study.start()
    until(lambda: [a for a in of(study, core.Rent) if a.offer == "scheduler"])
    until(lambda: of(study, core.MachineReady), "the scheduler")
    cloud.faults.dead_boots = 1
    study.wait(100)
    assert study.results().state.tolist() == ["completed", "completed"]
    tried = [a.offer for a in of(study, core.Rent)]
    assert set(tried) == {"scheduler", "c5.large spot", "c5.large", "m5.large spot", "m5.large"}
    assert [machine.instance_type for machine in cloud.machines()] == ["t3.small", "m5.large", "m5.large"]
    assert any("did not boot" in a.reason for a in of(study, core.Retire))


def test_local_folder_is_refused_as_store(cloud, home):
    with pytest.raises(
        ValueError, match=r"^store=.* is a folder of this machine, which machines of EC2.* cannot reach"
    ):
        make(cloud, store="here")


@thorough
def test_study_ends_with_its_last_lease_if_the_cloud_is_unreachable(cloud, home):
    study = make(cloud, seconds=0.5, max_epochs=1000, deadline="40s", budget="$0.02", policy=Simple(until=1000))
    study.start()
    reports(study, 2)
    cloud.close()
    end_s = time.monotonic() + 40 + study.settings.lease_s + 30
    until(lambda: study.state.phase == "ended", "the end of the study", end_s - time.monotonic())
    state = study.state
    assert state.ledger.spent_micro(state.now_s) <= state.budget_micro
    silent = [event for event in of(study, core.MachineEnded) if "its lease has expired" in event.reason]
    assert silent, "their termination could not be confirmed"
    assert len(study.curves()) >= 2
    # The runner still tries for minutes to delete what costs nothing, such as the security group.
