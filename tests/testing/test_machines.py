"""Machines boot, and run their user data as cloud-init does."""

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


def test_commands_run_one_after_the_other_and_a_failing_one_stops_none(cloud):
    name = launch(cloud, "echo one", ["echo", "two  $HOME"], "ls /nonexistent", "echo three; echo four", "cd /; pwd")
    found = printed(cloud, name, "four\n/\n")
    assert re.fullmatch(r"one\ntwo  \$HOME\nls: .*\nthree\nfour\n/\n", found)


def test_a_machine_whose_script_has_ended_runs_on(cloud):
    name = launch(cloud, "echo done")
    printed(cloud, name, "done")
    until(lambda: not machine(cloud, name).pids)
    time.sleep(0.2)
    assert machine(cloud, name).state == described(name)["State"]["Name"] == "running"


def test_a_machine_boots_after_a_while(cloud):
    cloud.faults.boot_s = 0.6
    name = launch(cloud, "echo up")
    printed(cloud, name, "up")
    assert booted_after_s(cloud, name) >= 0.6


def test_the_record_says_what_the_machine_is(cloud):
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


def test_a_gzipped_script_runs_too(cloud):
    # EC2 takes bytes, and cloud-init unpacks them: the way around the limit of 16 KiB.
    text = b"#cloud-config\nruncmd:\n- echo unpacked\n"
    name = launch(cloud, UserData=gzip.compress(text))
    printed(cloud, name, "unpacked")


def test_a_script_that_is_no_cloud_config_runs(cloud):
    name = launch(cloud, UserData=f"#!{HERE}\nprint('by python')\n")
    printed(cloud, name, "by python")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("gibberish", "give a #cloud-config or a script that begins with #!"),
        ("#cloud-config\nruncmd: [", "user data is not YAML"),
        ("#cloud-config\n- a", "user data is a list"),
        ("#cloud-config\nruncmd: [true]", "runcmd has the item True"),
        ("#cloud-config\nruncmd: [/sbin/shutdown -h now]", "would end this very computer"),
    ],
)
def test_bad_user_data_leaves_a_machine_that_does_nothing_and_says_why(cloud, data, words):
    name = launch(cloud, UserData=data)
    printed(cloud, name, words)
    assert machine(cloud, name).state == "running"


def test_what_is_not_done_of_a_cloud_config_is_said(cloud):
    name = launch(cloud, UserData="#cloud-config\npackages: [curl]\nruncmd: [echo done]\n")
    assert printed(cloud, name, "\ndone\n") == "not done here: packages\ndone\n"


def test_editable_packages_are_not_there(cloud):
    name = launch(
        cloud,
        "docker run --net=host image python -c 'import dask; print(dask.__name__)'",
        "python -c 'import multiprocessing as m; m.get_context(\"spawn\").Process(target=print, args=(1,)).start()'",
        "python -c 'import seer_nb' || echo missing",
    )
    found = printed(cloud, name, "missing")
    assert "dask\n" in found
    assert "No module named 'seer_nb'" in found


def test_docker_runs_its_command_here(cloud):
    run = 'docker run --net=host --gpus=all --rm -v /a:/b --shm-size 1g -e A="1 2" --env B=3 -it image:tag'
    name = launch(cloud, f"{run} env", f"{run} sh -c 'exit 3' || echo code $?", "docker run image nosuchthing")
    found = printed(cloud, name, "nosuchthing: No such file")
    assert "A=1 2\nB=3\n" in found
    assert "code 3\n" in found


def test_what_a_container_is_told_is_seen_by_no_other_user(cloud):
    run = "docker run -e A='its own' --env-file /dev/null image env B='its own, too' sh -c 'echo \"$A, $B\"; cat'"
    with seen() as arguments:
        name = launch(cloud, *[run] * 5, f"echo given | {run}", f"{run} | cat && echo over")
        found = printed(cloud, name, "over")
    line = "its own, its own, too\n"
    assert found == f"{line * 6}given\n{line}over\n", "its input is what it was"
    assert any(b"shims.py\0docker" in each for each in arguments), "nobody has looked quickly"
    assert not [each for each in arguments if b"its own" in each]


def test_docker_is_told_its_variables_as_they_are(cloud):
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


def test_nothing_sets_up_this_computer(cloud):
    commands = ["apt-get install -y docker-ce", "echo key | apt-key add -", "systemctl start docker", "sudo -E echo up"]
    assert printed(cloud, launch(cloud, *commands), "up") == "up\n"
