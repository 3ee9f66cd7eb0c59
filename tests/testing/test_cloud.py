"""The cloud as a whole: its environment, its addresses, its end."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import boto3
import pytest

from seer_nb.errors import SeerError
from seer_nb.testing.loopback import LoopbackCloud, cleanup
from seer_nb.testing.loopback.environment import Block
from tests.support.loopback_machines import HERE, ec2, launch, machine, printed, refused, request
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def test_the_environment_leads_clients_to_the_cloud_and_is_put_back(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "https://ec2.example.com")
    monkeypatch.delenv("AWS_REGION", raising=False)
    before = dict(os.environ)
    with LoopbackCloud() as cloud:
        assert cloud.environment.items() <= os.environ.items()
        assert os.environ["AWS_ACCESS_KEY_ID"] != "mine"
        assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_EC2"} & os.environ.keys()
        assert ec2().describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"]
        assert ec2().describe_images(ImageIds=[cloud.ami])["Images"]
        assert ec2().describe_security_groups(GroupIds=[cloud.security_group])["SecurityGroups"]
    assert dict(os.environ) == before


def test_a_proxy_is_gone_around(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("no_proxy", raising=False)
    with LoopbackCloud() as cloud:
        assert ec2().describe_vpcs(VpcIds=[cloud.vpc])["Vpcs"]
        assert os.environ["NO_PROXY"] == "example.com,127.0.0.1"


def test_the_bucket_holds_things(cloud):
    s3 = boto3.client("s3")
    s3.put_object(Bucket=cloud.bucket, Key="a/b", Body=b"text")
    assert s3.get_object(Bucket=cloud.bucket, Key="a/b")["Body"].read() == b"text"
    url = s3.generate_presigned_url("get_object", Params={"Bucket": cloud.bucket, "Key": "a/b"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"text"


def test_s3fs_finds_the_next_cloud_too():
    import s3fs

    for _ in range(2):
        with LoopbackCloud() as cloud:
            files = s3fs.S3FileSystem()
            files.pipe(f"{cloud.bucket}/new", b"text")
            assert files.ls(cloud.bucket) == [f"{cloud.bucket}/new"]


def test_nobody_without_the_key_can_run_anything(cloud):
    # Else every user of the computer, and every web page, could run commands as this user.
    stranger = boto3.client("ec2", aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x")
    with refused("AuthFailure", 401):
        stranger.run_instances(**request(cloud, "echo here"))
    for path in ("/", "/moto-api/reset", f"/{cloud.bucket}"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(cloud.environment["AWS_ENDPOINT_URL"] + path, data=b"Action=RunInstances")
    assert not cloud.machines()


def test_addresses_are_one_machine_s_each(cloud):
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: launch(cloud), range(8)))
    ec2().terminate_instances(InstanceIds=names[:4])
    names += [launch(cloud) for _ in range(4)]
    addresses = [m.address for m in cloud.machines()]
    assert len(addresses) == len(set(addresses)) == len(names)
    assert {address.rpartition(".")[0] for address in addresses} == {cloud._park.addresses.cidr.rpartition(".")[0]}


def test_an_address_is_used_again_only_when_all_have_been(cloud):
    block = cloud._park.addresses
    first = block.take()
    block.give_back(first)
    others = {block.take() for _ in range(250)}
    assert first not in others
    assert block.take() == first
    with refused("InsufficientFreeAddressesInSubnet"):
        launch(cloud)


def test_clouds_have_addresses_of_their_own(cloud):
    other = Block()
    assert other.cidr != cloud._park.addresses.cidr
    other.close()


def test_a_machine_without_a_subnet_is_on_loopback_too_and_so_is_its_public_address(cloud):
    public = {"DeviceIndex": 0, "AssociatePublicIpAddress": True}
    asked = {name: value for name, value in request(cloud).items() if name != "SubnetId"}
    found = ec2().run_instances(**asked, NetworkInterfaces=[public])["Instances"][0]
    assert found["PrivateIpAddress"].startswith("127.0.")
    assert found["PublicIpAddress"] == found["PrivateIpAddress"]


def test_nothing_is_left_when_it_closes(tmp_path):
    with LoopbackCloud(boot_s=0.0) as cloud:
        names = [launch(cloud, "(setsid sleep 100 &)", "sleep 100") for _ in range(2)]
        until(lambda: all(len(machine(cloud, name).pids) >= 2 for name in names))
        mark, folder, scratch = cloud._park._homes._cloud, cloud.machines()[0].folder, cloud._park._homes._scratch
        assert cleanup.marked(f"{mark}/")
    assert not cleanup.marked(f"{mark}/")
    assert not folder.exists()
    assert not scratch.exists()
    assert [m.state for m in cloud.machines()] == ["terminated"] * 2
    assert all(m.ended > m.launched for m in cloud.machines())
    cloud.close()


def test_a_forked_child_does_not_end_it(cloud):
    name = launch(cloud, "sleep 100")
    child = os.fork()
    if not child:
        cloud.close()
        os._exit(0)
    os.waitpid(child, 0)
    until(lambda: machine(cloud, name).pids)


def test_a_given_folder_is_kept(tmp_path):
    for text in ("first\n", "second\n"):
        with LoopbackCloud(boot_s=0.0, folder=tmp_path / "kept") as cloud:
            name = launch(cloud, f"echo {text}")
            printed(cloud, name, text)
        # The same seed, and so the same machine: the later one is kept.
        assert (tmp_path / "kept" / name / "output.log").read_text() == text


def test_the_same_seed_gives_the_same_ids():
    def ids(seed):
        with LoopbackCloud(seed=seed) as cloud:
            return cloud.subnet, launch(cloud)

    assert ids(1) == ids(1) != ids(2)


def test_one_cloud_at_a_time(cloud):
    with pytest.raises(SeerError, match="open in this process already"):
        LoopbackCloud().start()


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="boot_s=-1 is not a time: give seconds from 0 on"):
        LoopbackCloud(boot_s=-1)
    with pytest.raises(TypeError, match="seed='a': not a seed; expected an integer"):
        LoopbackCloud(seed="a")
    with pytest.raises(SeerError, match="not open"):
        LoopbackCloud().lose("i-0")


def test_without_moto_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "moto.server", None)
    with pytest.raises(SeerError, match=r'pip install "seer_nb\[loopback\]"'):
        LoopbackCloud().start()


def test_moto_is_as_it_was_afterwards(cloud):
    from moto.ec2.models.instances import Instance

    changed = Instance.terminate
    cloud.close()
    assert Instance.terminate is not changed
    assert Instance.terminate.__module__.startswith("moto.")


def on_machines_of(key):
    """Processes of machines that were given this key."""
    needle = f"AWS_ACCESS_KEY_ID={key}\0".encode()
    found = []
    for pid in cleanup.marked(""):
        with suppress(OSError):
            found += [pid] if needle in Path(f"/proc/{pid}/environ").read_bytes() else []
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_in_a_shell(how):
    command = [HERE, "-m", "seer_nb.testing.loopback", "--boot-s", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
        exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines if "export" in line)
        ami = next(line.split()[-1] for line in lines if line.startswith("# ami"))
        code = (
            "import boto3, time; ec2 = boto3.client('ec2')\n"
            f"ec2.run_instances(ImageId={ami!r}, InstanceType='m5.large', MinCount=1, MaxCount=1,"
            " UserData='#cloud-config\\nruncmd: [sleep 100]')\n"
        )
        subprocess.run([HERE, "-c", code], env={**os.environ, **exported}, check=True)
        key = exported["AWS_ACCESS_KEY_ID"]
        until(lambda: on_machines_of(key))
        process.send_signal(how)
        assert process.wait(20) == 0
    assert not on_machines_of(key)


def test_a_bad_argument_in_a_shell():
    done = subprocess.run(
        [HERE, "-m", "seer_nb.testing.loopback", "--boot-s", "-3"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "boot_s=-3.0 is not a time: give seconds from 0 on\n"
