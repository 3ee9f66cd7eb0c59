"""Start-up data (user data) of cloud machines: values are escaped for dask-cloudprovider's template, then checked.

The template inserts values as they are. A machine whose start-up data is not valid YAML runs nothing, not even its
watchdog, and is billed without end.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from typing import Any

from seer_nb.errors import SeerError

LAST_COMMAND = "shutdown -h now"
_SPECIAL = re.compile(r'["$`\\]')
"""Characters that are special to a shell within double quotes."""
_NOT_PRINTABLE = re.compile(r"[^\n -~]+")
"""Everything but printable ASCII and the line feed."""
_LINE_FEED = '""\n\n    ""'
"""A line feed within YAML's single quotes: an empty line. YAML drops the blanks around it, so the shell's quotes are
closed and opened again to keep blanks that belong to the value."""


def in_yaml(text: str) -> str:
    """Escape one line for single quotes in YAML."""
    return text.replace("'", "''")


def shell_word(text: str) -> str:
    """Quote one word of a shell command that stands within single quotes in YAML."""
    return in_yaml(shlex.quote(text))


def variable(value: str) -> str:
    """Escape any value for double quotes in a shell command that stands within single quotes in YAML.

    The result is ASCII: YAML cannot write some characters there, and dask-cloudprovider takes only ASCII for Azure.
    """
    text = _NOT_PRINTABLE.sub(_printf, _SPECIAL.sub(r"\\\g<0>", value))
    return in_yaml(text).replace("\n", _LINE_FEED)


def check(cluster: Any, vm: Any, machine: int, limit: int, cloud: str) -> None:
    """Check that the cloud accepts a machine's start-up data and that the machine will run the intended commands.

    Args:
        cluster: dask-cloudprovider's cluster object, which renders the template.
        vm: dask-cloudprovider's machine object.
        machine: Number of the machine.
        limit: Largest size that the cloud accepts, in bytes.
        cloud: Name of the cloud, for messages.

    Raises:
        SeerError: The data is too large, or means something else than intended.
    """
    data = cluster.render_process_cloud_init(vm)
    size = len(data.encode())
    if size > limit:
        raise SeerError(
            f"the start-up data of machine {machine} has {size} bytes, but {cloud} accepts {limit}: "
            "give fewer or shorter variables in env="
        )
    if not _is_as_intended(data, vm):
        raise SeerError(
            f"the start-up data of machine {machine} would not run the intended commands, and the machine might "
            "never terminate, so it is not rented: give plainer variables in env= and a plainer image=, "
            "or install dask-cloudprovider 2025.9"
        )


def _is_as_intended(data: str, vm: Any) -> bool:
    """Return whether the last commands are: start the watchdog, run the container, shut down."""
    if not data.startswith("#cloud-config\n"):
        return False
    yaml: Any = importlib.import_module("yaml")  # installed with Dask; it has no types
    try:
        *before, run, last = yaml.safe_load(data)["runcmd"]
        watchdog = [json.loads(command) for command in vm.extra_bootstrap]
        return (
            before[-len(watchdog) :] == watchdog and shlex.split(run) == _docker_run(vm, yaml) and last == LAST_COMMAND
        )
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError):
        return False


def _docker_run(vm: Any, yaml: Any) -> list[str]:
    """Return the words of the command that runs the container, from parsing each of its parts alone.

    Raises:
        yaml.YAMLError, ValueError: A part does not stay within its quotes.
    """

    def split(text: str) -> list[str]:
        return shlex.split(yaml.safe_load(f"'{text}'"))

    words = ["docker", "run", "--net=host", *(["--gpus=all"] if vm.gpu_instance else [])]
    for name, value in vm.env_vars.items():
        (one,) = split(f'{name}="{value}"')
        words += ["-e", one]
    (image,) = split(vm.docker_image)
    return [*words, *split(vm.docker_args), image, *split(vm.command)]


def _printf(characters: re.Match[str]) -> str:
    """Return a command substitution in ASCII that prints the characters from their bytes."""
    octal = "".join(rf"\\{byte:03o}" for byte in characters[0].encode())
    return f"$(printf {octal})"
