"""Machines stop and terminate as on EC2, together with all their processes."""

import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seer_nb.testing.loopback import cleanup
from tests.support.loopback_machines import HERE, alive, described, ec2, ended, launch, machine, on
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["shutdown -h now", "sudo poweroff", "systemctl poweroff"])
def test_shutdown_terminates_the_machine(cloud, command):
    name = launch(cloud, "sleep 100 &", command, "sleep 100")
    found = ended(cloud, name)
    assert described(name)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert found.ended > found.launched


def test_delayed_shutdown_can_be_cancelled(cloud):
    name = launch(cloud, "shutdown -h +1", "until [ -e go ]; do sleep 0.02; done", "shutdown -c", "sleep 100")
    live = cloud.pool.find(name)
    late = until(lambda: live.shutdown_at_s)
    assert 30 < late - time.monotonic() <= 60
    (machine(cloud, name).folder / "go").touch()
    until(lambda: live.shutdown_at_s is None)
    assert machine(cloud, name).state == "running"


def test_shutdown_stops_a_machine_with_behaviour_stop(cloud):
    name = launch(cloud, "shutdown", "sleep 100", InstanceInitiatedShutdownBehavior="stop")
    until(lambda: machine(cloud, name).state == "stopped")
    assert machine(cloud, name).pids == ()
    assert machine(cloud, name).ended is None


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork() or os.setsid()
os.fork()
time.sleep(100)
"""


def test_termination_kills_all_descendants(cloud):
    # One process has its own session; another is an orphan.
    name = launch(cloud, ["python", "-c", STUBBORN], "(setsid sleep 100 &)", "env -i /bin/sleep 100")
    pids = on(cloud, name, 4)
    ec2().terminate_instances(InstanceIds=[name])
    ended(cloud, name)
    until(lambda: not alive(pids))


def test_termination_kills_processes_without_the_mark(cloud):
    name = launch(cloud, "env -i /bin/sleep 100")
    pids = on(cloud, name, 2)
    ec2().terminate_instances(InstanceIds=[name])
    ended(cloud, name)
    until(lambda: not alive(pids))


def test_second_termination_is_not_an_error(cloud):
    name = launch(cloud, "sleep 100")
    ec2().terminate_instances(InstanceIds=[name])
    first = machine(cloud, name).ended
    again = ec2().terminate_instances(InstanceIds=[name])["TerminatingInstances"][0]
    assert again["PreviousState"]["Name"] == "terminated"
    assert machine(cloud, name).ended == first


def test_billed_time_can_be_read_from_the_api(cloud):
    name = launch(cloud, "sleep 100")
    on(cloud, name)
    time.sleep(1.0)
    ec2().terminate_instances(InstanceIds=[name])
    found = described(name)
    reason = re.fullmatch(r"User initiated \((.*) GMT\)", found["StateTransitionReason"])
    end = datetime.strptime(reason[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    own = machine(cloud, name)
    assert end == own.ended.replace(microsecond=0)
    assert found["LaunchTime"] == own.launched.replace(microsecond=0)
    assert 1.0 <= (own.ended - own.launched).total_seconds() < 30.0


def test_lost_machine_is_terminated_at_once(cloud):
    name = launch(cloud, "sleep 100 & sleep 100")
    pids = on(cloud, name, 2)
    cloud.lose(name)
    until(lambda: not alive(pids))
    assert machine(cloud, name).state == "terminated"
    assert described(name)["StateReason"]["Code"] == "Server.InternalError"


def test_machine_lost_before_its_boot_never_boots(cloud):
    cloud.faults.boot_s = 60.0
    name = launch(cloud, "echo up")
    cloud.lose(name)
    live = cloud.pool.find(name)
    live.boot_at_s = 0.0
    live.boot_if_due()
    assert live.process is None


def test_invalid_calls_are_explained(cloud):
    name = launch(cloud)
    with pytest.raises(ValueError, match=f"instance_id='{name}': an on-demand machine; expected a spot machine"):
        cloud.interrupt(name)
    with pytest.raises(ValueError, match="instance_id='i-0': not a machine of this cloud; expected i-"):
        cloud.lose("i-0")


def test_machines_are_killed_when_the_cloud_process_dies(tmp_path):
    code = (
        "import time, os, yaml, boto3; from seer_nb.testing.loopback import LoopbackCloud\n"
        f"cloud = LoopbackCloud(boot_s=0, folder={str(tmp_path)!r}).start()\n"
        "data = '#cloud-config\\nruncmd: [sleep 100]'\n"
        "boto3.client('ec2').run_instances(ImageId=cloud.ami, InstanceType='m5.large', MinCount=1, MaxCount=1,"
        " UserData=data)\n"
        "while not (pids := cloud.machines()[0].pids): time.sleep(0.01)\n"
        "print(cloud.pool.setups.cloud, cloud.pool.setups.scratch, *pids, flush=True); time.sleep(100)\n"
    )
    with subprocess.Popen([HERE, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        name, scratch, *pids = process.stdout.readline().split()
        assert cleanup.marked_processes(f"{name}/")
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: not alive(map(int, pids)) and not cleanup.marked_processes(f"{name}/"), "their end")
    until(lambda: not Path(scratch).exists())
