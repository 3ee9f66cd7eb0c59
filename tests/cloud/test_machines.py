"""``seer-nb machines`` lists and terminates the machines of all studies, with or without a runner."""

import io
import sys

import pytest

from seer_nb.providers.aws import api
from seer_nb.ui import cli
from tests.support.loopback_fleets import living, provider
from tests.support.recorded_fleet import RecordedFleet

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def rented(cloud, home):
    """Rent two machines for a study without a runner."""
    cloud.faults.boot_s = 1000.0
    of = provider(cloud, spot="mixed")
    async with RecordedFleet(home / "f", of) as recorded:
        for number, offer in enumerate(of.offers()):
            await recorded.fleet.rent(number, offer)
        yield cloud


def run(monkeypatch, capsys, *arguments, answer=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    code = cli.main(["machines", *arguments])
    return code, capsys.readouterr().out


async def in_a_thread(function, *arguments, **more):
    """Run a function in a thread: the command starts its own event loop."""
    import asyncio

    return await asyncio.to_thread(function, *arguments, **more)


async def test_machines_are_listed_with_prices_and_terminated_after_a_yes(rented, monkeypatch, capsys):
    code, output = await in_a_thread(run, monkeypatch, capsys)
    assert code == 0
    head, spot, demand, total = output.splitlines()
    assert head.split() == ["study", "machine", "instance", "type", "state", "age", "per", "hour"]
    assert [*spot.split()[:2], *spot.split()[3:6]] == ["study", "0", "m5.large", "spot", "running"]
    assert [*demand.split()[:2], *demand.split()[3:5]] == ["study", "1", "m5.large", "running"]
    assert total == "2 machines, $0.192 per hour on demand, without disks and addresses"
    code, output = await in_a_thread(run, monkeypatch, capsys, "--terminate", answer="n\n")
    assert (code, len(living(rented))) == (1, 2)
    assert output.endswith("nothing was terminated\n")
    code, output = await in_a_thread(run, monkeypatch, capsys, "--terminate", "--study", "another", "--yes")
    assert len(living(rented)) == 2
    assert output == "no machine of a study is running\n"
    code, output = await in_a_thread(run, monkeypatch, capsys, "--terminate", answer="y\n")
    assert code == 0
    assert not living(rented)


async def test_leftover_security_groups_are_listed_and_deleted(cloud, home, monkeypatch, capsys):
    of = provider(cloud)
    async with of.client() as client:
        left = await api.make_group(client, cloud.vpc, "dead", "0123456789abcdef")
        code, output = await in_a_thread(run, monkeypatch, capsys)
        assert (code, output.splitlines()[0]) == (0, "no machine of a study is running")
        assert output.splitlines()[1] == f"security group {left} of study dead is left over"
        code, output = await in_a_thread(run, monkeypatch, capsys, "--study", "another", "--terminate", "--yes")
        assert left not in output
        code, output = await in_a_thread(run, monkeypatch, capsys, "--terminate", answer="n\n")
        assert code == 1
        assert "terminate 1 security group? [y/N]" in output
        assert await api.list_study_groups(client)
        code, output = await in_a_thread(run, monkeypatch, capsys, "--terminate", answer="y\n")
        assert code == 0
        assert output.endswith("deleted 1 security group\n")
        assert not await api.list_study_groups(client)


async def test_missing_region_is_reported(home, monkeypatch, capsys):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "none"))
    assert await in_a_thread(cli.main, ["machines"]) == 1
    assert "region=None: boto has no region configured" in capsys.readouterr().err
