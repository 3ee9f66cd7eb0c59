"""Machines boot and run their user data as cloud-init does."""

import gzip
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.arguments import seen
from tests.support.loopback_machines import (
    HERE,
    alive,
    booted_after_s,
    described,
    ec2,
    launch,
    machine,
    on,
    printed,
    until,
)

pytestmark = pytest.mark.slow


def test_commands_run_in_order_despite_a_failing_one(cloud):
    name = launch(cloud, "echo one", ["echo", "two  $HOME"], "ls /nonexistent", "echo three; echo four", "cd /; pwd")
    found = printed(cloud, name, "four\n/\n")
    assert re.fullmatch(r"one\ntwo  \$HOME\nls: .*\nthree\nfour\n/\n", found)


def test_machine_keeps_running_after_its_script_exits(cloud):
    name = launch(cloud, "echo done")
    printed(cloud, name, "done")
    until(lambda: not machine(cloud, name).pids)
    time.sleep(0.2)
    assert machine(cloud, name).state == described(name)["State"]["Name"] == "running"


def test_machine_boots_after_boot_s(cloud):
    cloud.faults.boot_s = 0.6
    name = launch(cloud, "echo up")
    printed(cloud, name, "up")
    assert booted_after_s(cloud, name) >= 0.6


def test_record_describes_the_machine(cloud):
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "study", "Value": "digits"}]}]
    name = launch(cloud, "sleep 60", kind="c5.xlarge", spot=True, TagSpecifications=tags)
    ec2().create_tags(Resources=[name], Tags=[{"Key": "Name", "Value": "worker"}])
    pids = on(cloud, name)
    found = machine(cloud, name)
    assert found.instance_id == name
    assert (found.instance_type, found.state, found.spot) == ("c5.xlarge", "running", True)
    assert found.tags == {"study": "digits", "Name": "worker"}
    assert found.address == described(name)["PrivateIpAddress"]
    assert abs(found.launched - datetime.now(UTC)) < timedelta(seconds=10)
    assert found.ended is None
    assert set(pids) == alive(pids)


def test_gzipped_user_data_runs(cloud):
    # cloud-init decompresses user data, so gzip allows more than 16 KiB.
    text = b"#cloud-config\nruncmd:\n- echo unpacked\n"
    name = launch(cloud, UserData=gzip.compress(text))
    printed(cloud, name, "unpacked")


def test_plain_script_runs(cloud):
    name = launch(cloud, UserData=f"#!{HERE}\nprint('by python')\n")
    printed(cloud, name, "by python")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("gibberish", "expected a #cloud-config or a script that begins with #!"),
        ("#cloud-config\nruncmd: [", "user data is not YAML"),
        ("#cloud-config\n- a", "user data is a list"),
        ("#cloud-config\nruncmd: [true]", "runcmd has the item True"),
        ("#cloud-config\nruncmd: [/sbin/shutdown -h now]", "would shut down this computer"),
    ],
)
def test_invalid_user_data_is_logged_and_the_machine_stays_idle(cloud, data, words):
    name = launch(cloud, UserData=data)
    printed(cloud, name, words)
    assert machine(cloud, name).state == "running"


def test_ignored_sections_of_a_cloud_config_are_logged(cloud):
    name = launch(cloud, UserData="#cloud-config\npackages: [curl]\nruncmd: [echo done]\n")
    assert printed(cloud, name, "\ndone\n") == "ignored sections of the cloud-config: packages\ndone\n"


def test_editable_packages_cannot_be_imported(cloud):
    name = launch(
        cloud,
        "docker run --net=host image python -c 'import dask; print(dask.__name__)'",
        "python -c 'import multiprocessing as m; m.get_context(\"spawn\").Process(target=print, args=(1,)).start()'",
        "python -c 'import seer_nb' || echo missing",
    )
    found = printed(cloud, name, "missing")
    assert "dask\n" in found
    assert "No module named 'seer_nb'" in found


def test_docker_runs_its_command_locally(cloud):
    run = 'docker run --net=host --gpus=all --rm -v /a:/b --shm-size 1g -e A="1 2" --env B=3 -it image:tag'
    name = launch(cloud, f"{run} env", f"{run} sh -c 'exit 3' || echo code $?", "docker run image nosuchthing")
    found = printed(cloud, name, "nosuchthing: No such file")
    assert "A=1 2\nB=3\n" in found
    assert "code 3\n" in found


def test_arguments_of_docker_are_hidden_from_other_users(cloud):
    run = "docker run -e A='its own' --env-file /dev/null image env B='its own, too' sh -c 'echo \"$A, $B\"; cat'"
    with seen() as arguments:
        name = launch(cloud, *[run] * 5, f"echo given | {run}", f"{run} | cat && echo over")
        found = printed(cloud, name, "over")
    line = "its own, its own, too\n"
    assert found == f"{line * 6}given\n{line}over\n", "standard input is unchanged"
    assert any(b"shims.py\0docker" in each for each in arguments), "no process list was read in time"
    assert not [each for each in arguments if b"its own" in each]


def test_docker_passes_variables_unchanged(cloud):
    odd = "'it'\\''s\n\n \t$A `b` \\z \"' "
    name = launch(cloud, f'docker run -e A={odd} image env B={odd} sh -c \'test "$A" = "$B" && printf %s. "$A"\'')
    printed(cloud, name, "it's\n\n \t$A `b` \\z \".")
    name = launch(
        cloud, "docker run image env -u HOME -i C=3 env", "docker run image env D=4", "docker run", "echo over"
    )
    found = printed(cloud, name, "over")
    assert found.startswith("C=3\n")
    assert "\nD=4\n" in found
    assert "docker: the command is missing" in found


def test_installation_commands_do_nothing(cloud):
    commands = ["apt-get install -y docker-ce", "echo key | apt-key add -", "systemctl start docker", "sudo -E echo up"]
    assert printed(cloud, launch(cloud, *commands), "up") == "up\n"
