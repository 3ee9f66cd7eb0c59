"""Two members that train together over gloo."""

import pytest

from seer_nb.core import Reported


def test_a_gang_sees_the_environment_of_torchrun(gangs):
    def train(config, run):
        import os

        import torch
        import torch.distributed as dist

        names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE"
        assert [os.environ[name] for name in names.split()] == [
            *(str(run.rank), "2", "0", "1"),
            *(str(run.rank), "2", str(run.rank), "2"),
        ]
        assert dist.is_torchelastic_launched()
        os.environ["LEFT_BEHIND"] = "1"
        # As a script for torchrun does; the store of an earlier gang must not interfere.
        dist.init_process_group("gloo")
        total = torch.tensor([1.0 + run.rank])
        dist.all_reduce(total)
        assert total.item() == 3
        dist.barrier()
        dist.destroy_process_group()
        run.report(accuracy=total)

    for _ in range(3):
        for rank, (reports, end) in enumerate(gangs.pair(train, until=1)):
            assert (end.outcome, end.error, end.rank) == ("target", "", rank)
            assert [r.value for r in reports] == ([3.0] if rank == 0 else [])


def all_trains(config, run):
    run.report(accuracy=run.world_size)


def averages(config, run):
    run.report(accuracy=run.mean(1.0))


def prepares_nothing_that_trains(config, run):
    import torch

    weight = torch.zeros(1, requires_grad=True)
    frozen = torch.nn.Linear(1, 1).requires_grad_(requires_grad=False)
    run.prepare(frozen, torch.optim.SGD([weight]))
    run.report(accuracy=1)


def prepares_a_model(config, run):
    import torch

    run.prepare(torch.nn.Linear(1, 1))
    run.report(accuracy=1)


def loads(config, run):
    run.loader([0.0, 1.0], 2)
    run.report(accuracy=1)


def divides_by_hand(config, run):
    numbers = range(8)[run.rank :: run.world_size]
    run.report(accuracy=run.mean(sum(numbers) / len(numbers), len(numbers)))


def reduces(config, run):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    dist.all_reduce(torch.ones(1), group=dist.new_group(list(range(run.world_size))))
    run.report(accuracy=1)


def only_opens_a_group(config, run):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    run.report(accuracy=1)


def closes_its_group(config, run):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    dist.destroy_process_group()
    run.report(accuracy=1)


@pytest.mark.parametrize(
    ("train", "shares"),
    [
        *((train, False) for train in (all_trains, averages, prepares_nothing_that_trains, only_opens_a_group)),
        *((train, True) for train in (prepares_a_model, loads, divides_by_hand, reduces, closes_its_group)),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_the_first_report_says_whether_the_members_share_the_work(gangs, train, shares):
    reports, end = gangs.train(train, size=2, until=2)
    assert end.error == ""
    assert [report.shares for report in reports] == [shares]


@pytest.mark.parametrize(("train", "shares"), [(all_trains, None), (loads, True), (prepares_a_model, True)])
def test_a_gang_of_one_knows_only_of_work_that_could_be_shared(gangs, train, shares):
    assert gangs.alone(train, until=1).reports[0].shares is shares


def test_a_gang_of_one_may_open_a_process_group(gangs, workers):
    def train(config, run):
        import torch.distributed as dist

        dist.init_process_group("gloo")
        assert dist.get_world_size() == 1
        run.report(accuracy=1)

    from seer_nb.worker.rendezvous import host_store

    store, port = host_store("127.0.0.1")
    for _ in range(2):
        sent = gangs.alone(train, until=1, store_port=port)
        assert sent.end.outcome == "target", sent.end.error
    del store


def test_a_store_listens_although_the_default_backend_takes_no_socket(monkeypatch):
    # As torch 2.6 and 2.7.
    import torch.distributed as dist

    from seer_nb.worker import rendezvous

    made, rejected = dist.TCPStore, []

    def without_libuv_sockets(*args, use_libuv=True, **kwargs):
        if use_libuv and "master_listen_fd" in kwargs:
            rejected.append(kwargs["master_listen_fd"])
            raise NotImplementedError("The libuv TCPStore backend does not support initialization with an listen fd.")
        return made(*args, use_libuv=use_libuv, **kwargs)

    monkeypatch.setattr(dist, "TCPStore", without_libuv_sockets)
    monkeypatch.setattr(rendezvous, "store_options", {})
    for _ in range(2):
        store, port = rendezvous.host_store("127.0.0.1")
        store.set("key", "value")
        assert made("127.0.0.1", port, is_master=False).get("key") == b"value"
    assert len(rejected) == 1, "torch logs an error for each"


def test_values_of_rank_0_count_and_all_ranks_stop_together(gangs):
    def train(config, run):
        run.state["rank"] = run.rank
        for epoch in run.epochs():
            run.report(**({"accuracy": epoch} if run.rank == 0 else {}))

    def hook(record, signals):
        if isinstance(record, Reported) and record.epoch == 2:
            signals.stop(record.gang)

    first, second = gangs.pair(train, hook, until=9)
    assert [(r.epoch, r.value) for r in first.reports] == [(1, 1), (2, 2), (3, 3)]
    assert first.reports[-1].checkpoint
    assert not second.reports
    assert (first.end.outcome, second.end.outcome) == ("stopped", "stopped")


def test_a_gang_that_is_stopped_before_it_starts_does_not_train(gangs):
    def train(config, run):
        raise AssertionError

    def hook(record, signals):
        if getattr(record, "rank", 1) == 0:  # only rank 0 receives the signal
            signals.stop(record.gang)

    assert [sent.end.outcome for sent in gangs.pair(train, hook)] == ["stopped", "stopped"]


def test_mean_is_exact_over_uneven_shares(gangs):
    def train(config, run):
        import torch
        from torch.utils.data import TensorDataset

        total = n = 0
        for (x,) in run.loader(TensorDataset(torch.arange(7.0)), batch_size=3, shuffle=False):
            total, n = total + x.sum().item(), n + len(x)
        assert run.mean(total / n, n) == 3.0
        assert run.mean(float("nan") if run.rank else 5.0, 1 - run.rank) == 5.0
        run.report(accuracy=run.mean(run.rank))

    first, _ = gangs.pair(train, until=1)
    assert first.reports[0].value == 0.5


@pytest.mark.parametrize("prepared", [False, True])
def test_the_failure_of_one_rank_ends_the_other(gangs, prepared):
    def train(config, run):
        import torch

        model = torch.nn.Linear(2, 1)
        if prepared:
            model = run.prepare(model)
        for epoch in run.epochs():
            if epoch == 2 and run.rank == 1:
                raise KeyError("mine")
            model(torch.ones(1, 2)).sum().backward()
            run.report(accuracy=1)

    first, second = gangs.pair(train, until=9)
    assert (second.end.outcome, second.end.collective) == ("failed", False)
    assert second.end.error.endswith("KeyError: 'mine'\n")
    assert (first.end.outcome, first.end.collective) == ("failed", True)
    assert [r.epoch for r in first.reports] == [1]


def test_a_value_that_cannot_be_stored_ends_both_ranks(gangs):
    def train(config, run):
        run.state["bad"] = run
        run.report(accuracy=1)

    first, second = gangs.pair(train)
    assert (
        first.end.error.strip()
        .splitlines()[-1]
        .startswith("TypeError: run.state['bad'] is of type seer_nb.worker.run.Run")
    )
    assert (first.end.collective, second.end.collective) == (False, True)


def test_the_error_names_a_rank_that_returns_early(gangs):
    def train(config, run):
        for epoch in run.epochs():
            if run.rank == 1 and epoch == 2:
                return
            run.report(accuracy=1)

    first, second = gangs.pair(train, until=9)
    assert second.end.outcome == "returned"
    assert (first.end.outcome, first.end.collective) == ("failed", False)
    assert first.end.error.strip().splitlines()[-1] == (
        "RuntimeError: rank 0 called run.report() while rank 1 returned from the training function: "
        "every rank must call run.report() once an epoch, and run.mean() equally often"
    )


def test_the_error_names_ranks_at_different_epochs(gangs):
    def train(config, run):
        run.state["is"] = "stored"
        for _ in run.epochs():
            run.report(accuracy=1)

    resumes = {"from_epoch": 3, "checkpoint": gangs.alone(train, until=3).reports[-1].checkpoint}
    for sent in gangs.pair(train, second=resumes, until=9):
        assert sent.end.error.strip().splitlines()[-1] == (
            "RuntimeError: rank 1 reports epoch 4 while rank 0 reports epoch 1: "
            "every rank must call run.report() once an epoch"
        )


def test_a_hung_rank_makes_the_collective_time_out(gangs):
    def train(config, run):
        import time

        if run.rank == 1:
            time.sleep(2)
        run.report(accuracy=1)

    first, second = gangs.pair(train, timeout_s=1.0)
    assert (first.end.outcome, first.end.collective) == ("failed", True)
    assert (second.end.outcome, second.end.collective) == ("failed", True)


def test_batchnorm_over_a_gang_equals_batchnorm_over_the_batch(gangs):
    def train(config, run):
        import torch
        from torch import nn

        for dims, kind in ((0, nn.BatchNorm1d), (1, nn.BatchNorm1d), (2, nn.BatchNorm2d), (3, nn.BatchNorm3d)):
            for extra in ({}, {"momentum": None}, {"track_running_stats": False}, {"affine": False}):
                torch.manual_seed(0)
                alone, shared = kind(4, **extra), kind(4, **extra)
                x = 100 + torch.randn(6, 4, *[2] * dims)
                w = torch.randn_like(x)
                part = slice(0, 2) if run.rank == 0 else slice(2, 6)
                own = x[part].clone().requires_grad_()
                x.requires_grad_()
                shared = run.prepare(nn.ModuleList([shared, nn.Linear(1, 1)])).module[0]
                for _ in range(2):
                    y, y_own = alone(x), shared(own)
                (y * w).sum().backward()
                (y_own * w[part]).sum().backward()
                torch.testing.assert_close(y_own, y[part], atol=1e-4, rtol=1e-5)
                torch.testing.assert_close(own.grad, x.grad[part], atol=1e-4, rtol=1e-4)
                for name, value in alone.state_dict().items():
                    torch.testing.assert_close(shared.state_dict()[name], value, atol=1e-4, rtol=1e-5)
                torch.testing.assert_close(shared.eval()(own), alone.eval()(own), atol=1e-4, rtol=1e-5)
        run.report(accuracy=1)

    for sent in gangs.pair(train, until=1):
        assert sent.end.outcome == "target", sent.end.error


def test_lightning_fabric_runs_unchanged(gangs):
    pytest.importorskip("lightning_fabric")

    def train(config, run):
        import torch
        from lightning_fabric import Fabric

        fabric = Fabric(accelerator="cpu", strategy="ddp", devices=1, num_nodes=run.world_size)
        fabric.launch()
        assert (fabric.global_rank, fabric.world_size) == (run.rank, run.world_size)
        model = torch.nn.Linear(4, 1)
        model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
        data = torch.utils.data.TensorDataset(torch.ones(8, 4), torch.zeros(8, 1))
        loader = fabric.setup_dataloaders(torch.utils.data.DataLoader(data, batch_size=2))
        for _ in range(3):
            for x, y in loader:
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                fabric.backward(loss)
                optimizer.step()
            run.report(accuracy=fabric.all_reduce(loss.detach(), reduce_op="mean"))

    sent = gangs.pair(train)
    assert [t.end.outcome for t in sent] == ["target", "target"], sent
    assert len(sent[0].reports) == 3


def test_accelerate_runs_unchanged_one_gang_after_the_other(gangs):
    def train(config, run):
        import torch
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        assert (accelerator.process_index, accelerator.num_processes) == (run.rank, run.world_size)
        model = torch.nn.Linear(4, 1)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        for _ in run.epochs():
            accelerator.backward(model(torch.ones(2, 4)).square().mean())
            optimizer.step()
            run.report(accuracy=1)

    for _ in range(2):
        sent = gangs.pair(train)
        assert [t.end.outcome for t in sent] == ["target", "target"], sent


def test_a_member_that_never_joins_makes_the_others_fail(gangs, workers):
    task = gangs.order(rank=1, size=2, port=workers.ports[0], gang=999_999, timeout_s=0.5)
    from seer_nb.worker.agent import GangSignals
    from seer_nb.worker.member import run_member

    records = []
    run_member(lambda config, run: None, task, records.append, GangSignals())
    assert [(r.outcome, r.collective) for r in records] == [("failed", True)]


def test_a_prepared_sequence_has_its_items_in_a_gang(gangs):
    def train(config, run):
        import torch

        model = run.prepare(torch.nn.Sequential(torch.nn.Linear(1, 2)))
        assert bool(model)
        assert (len(model), model[0].out_features) == (1, 2)
        assert list(model) == [model[0]]
        run.report(accuracy=1)

    assert [sent.end.error for sent in gangs.pair(train, until=1)] == ["", ""]


def test_a_part_cannot_be_called_by_itself_if_unused_parameters_are_to_be_found(gangs):
    def train(config, run):
        import torch

        model = run.prepare(torch.nn.Sequential(torch.nn.Linear(1, 2)), find_unused_parameters=True)
        with torch.no_grad():
            model[0](torch.ones(1))
        model[0](torch.ones(1))

    for sent in gangs.pair(train, until=1):
        assert sent.end.error.strip().splitlines()[-1] == (
            "RuntimeError: a part of a prepared module was called by itself, which find_unused_parameters=True does not"
            " support; expected a call of the module, or of one of its methods"
        )
