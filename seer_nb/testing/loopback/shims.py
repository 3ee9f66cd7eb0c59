"""Replacements for docker, python, shutdown and other commands on machines of the loopback cloud.

This script imports nothing of seer_nb. `user_data.write_shims` adds it to the machines' PATH, once per command.
"""

import json
import os
import sys
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

ARGUMENTS_FROM_PIPE = "@3"
"""Replaces the arguments of ``docker``, which are then read from file descriptor 3, each ended by a NUL."""
_SWITCHES = {
    *("detach", "disable-content-trust", "help", "init", "interactive", "no-healthcheck", "oom-kill-disable"),
    *("privileged", "publish-all", "quiet", "read-only", "rm", "sig-proxy", "tty", "use-api-socket"),
}
"""Options of ``docker run`` without a value."""
_SHORT_SWITCHES = "diPqt"
_POWER = frozenset({"shutdown", "poweroff", "halt", "reboot"})


def main(name: str, args: list[str]) -> None:
    """Run a command by its name."""
    if name == "docker":
        _docker(args)
    elif name in {"python", "python3"}:
        _python(args)
    elif name == "sudo":
        _run(args[next((at for at, word in enumerate(args) if not word.startswith("-")), len(args)) :])
    elif name in _POWER:
        _shutdown(args)
    elif name == "systemctl" and _POWER & set(args):
        _shutdown([])
    # The other commands install software, which this computer has already.


def _docker(args: list[str]) -> None:
    if args == [ARGUMENTS_FROM_PIPE]:
        with open(3, "rb") as pipe:
            args = os.fsdecode(pipe.read()).split("\0")[:-1]
    if args[:1] != ["run"]:
        return
    options, command = _split(args[1:])
    if not command:
        sys.exit("docker: the command is missing; the loopback cloud has no images with a default command")
    for name, value in options:
        if name in {"e", "env"}:
            key, equals, text = value.partition("=")
            os.environ.update({key: text} if equals else {})
        elif name == "env-file":
            lines = Path(value).read_text().splitlines()
            os.environ.update(dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")))
    if {"d", "detach"} & {name for name, _ in options} and os.fork():
        return
    _run(command)


def _split(args: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options of ``docker run`` with their values, and the command after the image's name."""
    options, words = [], list(args)
    while words and words[0].startswith("-"):
        options += _option(words)
    return options, words[1:]


def _option(words: list[str]) -> list[tuple[str, str]]:
    """Remove the first option from ``words``: --name=x, --name x, -v a:b, -eK=V, -it or -itv a:b."""
    word = words.pop(0)
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return [(name, value if equals or name in _SWITCHES else _next(words))]
    rest = word[1:].lstrip(_SHORT_SWITCHES)
    switches = [(letter, "") for letter in word[1 : len(word) - len(rest)]]
    return [*switches, (rest[0], rest[1:] or _next(words))] if rest else switches


def _next(words: list[str]) -> str:
    return words.pop(0) if words else ""


def _python(args: list[str]) -> NoReturn:
    interpreter = os.environ["SEER_LOOPBACK_PYTHON"]
    packages = os.environ.get("SEER_LOOPBACK_PACKAGES")
    flags = []
    if packages is not None:
        # Without the site module Python reads no .pth file and cannot import editable packages.
        flags = ["-S"]
        own = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = own if own.endswith(packages) else os.pathsep.join(filter(None, [own, packages]))
    os.execv(interpreter, [interpreter, *flags, *_bind_to_address(args, os.environ["SEER_LOOPBACK_ADDRESS"])])  # noqa: S606


def _bind_to_address(args: list[str], address: str) -> list[str]:
    """Make Dask servers listen on the machine's own address.

    By default they would use the computer's first address, which all machines share.
    """
    module = args[args.index("-m") + 1 :][:1] if "-m" in args else []
    given = {word.partition("=")[0] for word in args}
    if module in (["distributed.cli.dask_scheduler"], ["distributed.cli.dask_worker"]):
        args = args if "--host" in given else [*args, "--host", address]
    if module == ["distributed.cli.dask_scheduler"] and not given & {"--dashboard-address", "--no-dashboard"}:
        args = [*args, "--dashboard-address", f"{address}:8787"]
    if module == ["distributed.cli.dask_spec"]:
        args = [_spec(word, before, address) for before, word in zip(["", *args], args, strict=False)]
    return args


def _spec(word: str, before: str, address: str) -> str:
    prefix, text = ("", word) if before == "--spec" else (word[:7], word[7:])
    if prefix not in {"", "--spec="} or (not prefix and before != "--spec"):
        return word
    spec = json.loads(text)
    for server in [spec] if "cls" in spec else spec.values():
        server.setdefault("opts", {}).setdefault("host", address)
    return prefix + json.dumps(spec)


def _shutdown(args: list[str]) -> None:
    """Request the shutdown of this machine by a file: minutes to wait, or an empty file to cancel."""
    request = Path(os.environ["SEER_LOOPBACK_SHUTDOWN"])
    times = [word for word in args if not word.startswith("-")]
    minutes = times[0].removeprefix("+") if times else "0"
    draft = request.with_suffix(f".{os.getpid()}")
    draft.write_text("" if "-c" in args else minutes if minutes.isdigit() else "0")
    draft.replace(request)


def _run(command: list[str]) -> None:
    command = _apply_env_command(command)
    if not command:
        return
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)


def _apply_env_command(command: list[str]) -> list[str]:
    """Apply the variables of an ``env`` command here: as arguments every user could see them."""
    given = list(takewhile(lambda word: word.find("=") > 0, command[1:])) if command[:1] == ["env"] else []
    os.environ.update({name: value for name, _, value in (word.partition("=") for word in given)})
    return command[1 + len(given) :] or ["env"] if given else command


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
