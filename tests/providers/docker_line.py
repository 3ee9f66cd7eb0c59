"""The arguments of docker in a machine's start-up data, read as cloud-init does and evaluated by a real shell."""

import subprocess
from itertools import pairwise

import yaml


def docker_line(user_data):
    """Return the command that starts the container."""
    (found,) = (command for command in yaml.safe_load(user_data)["runcmd"] if command.startswith("docker run"))
    return found


def docker_arguments(user_data, folder, shell="sh"):
    """Return the arguments that docker receives from a shell."""
    docker, script = folder / "bin" / "docker", folder / "runcmd"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    docker.chmod(0o755)
    script.write_text(docker_line(user_data))
    environment = {"PATH": f"{docker.parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run([shell, script], env=environment, capture_output=True, check=True)
    assert not done.stderr
    return done.stdout.decode().split("\0")[:-1]


def container_variables(words):
    """Return the environment variables of the container, from the arguments of docker."""
    given = [word for before, word in pairwise(words) if before == "-e"]
    return dict(word.split("=", 1) for word in given)
