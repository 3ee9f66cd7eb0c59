"""Start-up data: dask-cloudprovider's template takes texts as they are, so they are made to fit it, and looked at then.

A machine whose start-up data is no YAML runs nothing at all, its watchdog neither, and is billed without an end.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from typing import Any

from seer_nb.errors import SeerError

END = "shutdown -h now"
_ACTIVE = re.compile(r'["$`\\]')
"""What means something to a shell within double quotes."""
_ODD = re.compile(r"[^\n -~]+")
"""What is not printable ASCII, but for a line's end."""
_LINE_END = '""\n\n    ""'
"""As yaml has one within quotes: as an empty line. It drops the blanks around that, so the shell's quotes keep apart
those that are meant."""


def in_yaml(text: str) -> str:
    """A line as it stands within single quotes in yaml: there two of them stand for one."""
    return text.replace("'", "''")


def word(text: str) -> str:
    """One word of a shell's line, and that within single quotes in yaml."""
    return in_yaml(shlex.quote(text))


def variable(value: str) -> str:
    """Any value as it stands within double quotes in a shell's line, and that within single quotes in yaml.

    It is ASCII, for yaml has no other way to say some characters there, and dask-cloudprovider none for Azure.
    """
    text = _ODD.sub(_printed, _ACTIVE.sub(r"\\\g<0>", value))
    return in_yaml(text).replace("\n", _LINE_END)


def check(cluster: Any, vm: Any, machine: int, limit: int, cloud: str) -> None:
    """Refuse a machine whose start-up data its cloud would not take, or would not be understood there as it is meant.

    Raises:
        SeerError: With a sentence that says what to change.
    """
    data = cluster.render_process_cloud_init(vm)
    size = len(data.encode())
    if size > limit:
        raise SeerError(
            f"the start-up data of machine {machine} has {size} bytes, but {cloud} takes {limit}: "
            "give fewer or shorter variables in env="
        )
    if not _as_meant(data, vm):
        raise SeerError(
            f"the start-up data of machine {machine} would not be understood as it is meant, and the machine might "
            "never end, so it is not rented: give plainer variables in env= and a plainer image=, "
            "or install dask-cloudprovider 2025.9"
        )


def _as_meant(data: str, vm: Any) -> bool:
    """Whether the last commands are these: the watchdog begins, the container runs, the machine ends."""
    if not data.startswith("#cloud-config\n"):
        return False
    yaml: Any = importlib.import_module("yaml")  # it comes with Dask, and has no types
    try:
        *before, run, end = yaml.safe_load(data)["runcmd"]
        watch = [json.loads(command) for command in vm.extra_bootstrap]
        return before[-len(watch) :] == watch and shlex.split(run) == _words(vm, yaml) and end == END
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError):
        return False


def _words(vm: Any, yaml: Any) -> list[str]:
    """Of the command that runs the container, by what each of its parts is when it stands alone.

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


def _printed(odd: re.Match[str]) -> str:
    """By their bytes: a shell's line may hold nothing but ASCII then."""
    octal = "".join(rf"\\{byte:03o}" for byte in odd[0].encode())
    return f"$(printf {octal})"
