"""Boot commands of a cloud machine: a watchdog, and a container with the Dask scheduler or workers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from seer_nb._utils.environment import BOOT_TIME, LEASE_FILE, RUN_FOLDER, SPOT_PROVIDER
from seer_nb.core.model import worker_name
from seer_nb.providers._dask_options import LOOPBACK_DASHBOARD, UNMANAGED_MEMORY, WORKER_DEATH_TIMEOUT_S
from seer_nb.providers.vm import cloud_init

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm.tls import Pem


STUDY_TAG = "seer:study"
"""Key of the tag that holds the study's name."""
IDENT_TAG = "seer:id"
"""Key of the tag that holds the study's ident; a name alone may belong to several studies."""
MACHINE_TAG = "seer:machine"
"""Key of the tag that holds the machine's number."""

# --- the watchdog ---

LEASE_FOLDER = f"${{{RUN_FOLDER}:-/run/seer}}"
"""Folder of the lease file, as a shell expands it."""
LEASE_PATH = f"{LEASE_FOLDER}/lease"
"""The lease file. It holds the uptime in seconds until which the machine may live: wall clocks may jump."""
WATCHDOG_POLL_S = 2
"""Seconds between two checks of the lease."""
BOOT_UPTIME = f"${{{BOOT_TIME}:-0}}"
"""Uptime at which the machine booted: 0, except on a machine of the loopback cloud."""


def lease_watchdog_command(boot_lease_s: float, lease: str = LEASE_PATH, terminate: str = "shutdown -h now") -> str:
    """Return the shell command that writes the first lease and starts the watchdog in the background.

    Args:
        boot_lease_s: Seconds that the machine may live before a runner renews the lease. They count from the boot of
            the machine, because much is installed before this command runs.
        lease: Path of the lease file.
        terminate: Shell command that terminates the machine.
    """
    watch = (
        f'while sleep {WATCHDOG_POLL_S}; do [ "$(cut -d. -f1 /proc/uptime)" -lt "$(cat "$0")" ] || {terminate}; done'
    )
    return (
        f'mkdir -p "$(dirname "{lease}")"; echo $(({BOOT_UPTIME}+{round(boot_lease_s)})) > "{lease}"; '
        f"nohup sh -c '{watch}' \"{lease}\" > /dev/null 2>&1 &"
    )


def extra_bootstrap(offer: Offer) -> list[str]:
    """Return the commands that a machine runs before its container starts: the watchdog."""
    # JSON is also a YAML string, whatever characters the command contains.
    return [json.dumps(lease_watchdog_command(offer.boot_lease_s))]


# --- the container ---

PORT = 8786
"""Port of the scheduler."""
WORKER_TTL = "60s"
"""Time without a heartbeat after which the scheduler considers a worker lost."""
DOCKER_ARGS = f"-v {LEASE_FOLDER}:{LEASE_FOLDER} --ipc=host"
SCHEDULER = (
    f"python -m distributed.cli.dask_scheduler --protocol tls --port {PORT} "
    f"--no-dashboard --no-show --dashboard-address {LOOPBACK_DASHBOARD}"
)
PACKAGES = ("torch", "msgspec", "numpy")
"""Packages that a study needs and Dask's own image lacks."""


def scheduler_command(pem: Pem) -> str:
    """Return the shell command of a scheduler."""
    return f"{_with_config(pem, 'scheduler')} {SCHEDULER}"


def worker_command(pem: Pem, machine: int, offer: Offer, scheduler: str, **options: Any) -> str:
    """Return the shell command of a machine's workers, escaped for single quotes in YAML.

    Args:
        pem: Key and certificate of the study.
        machine: Number of the machine.
        offer: The machine's offer.
        scheduler: Address of the scheduler, as workers reach it.
        **options: Further arguments of ``distributed.Worker``.
    """
    spec = worker_spec(machine, offer, **options)
    arguments = f"{cloud_init.shell_word(scheduler)} --spec {cloud_init.shell_word(spec)}"
    return f"{_with_config(pem, 'worker')} python -m distributed.cli.dask_spec {arguments}"


def worker_spec(machine: int, offer: Offer, **options: Any) -> str:
    """Return the JSON argument of ``distributed.cli.dask_spec``.

    The spec is one worker, or one nanny per worker of the machine, each with its own process and GPU.
    """
    given = {
        "nthreads": 1,
        "memory_limit": 0,
        "dashboard": False,
        "dashboard_address": LOOPBACK_DASHBOARD,
        "death_timeout": WORKER_DEATH_TIMEOUT_S,
        **options,
    }
    spec: dict[str, Any]
    if offer.workers_per_machine == 1:
        spec = {"cls": "distributed.Worker", "opts": {"name": worker_name(machine, 0), **given}}
    else:
        spec = {
            worker_name(machine, slot): _nanny(machine, slot, offer, given) for slot in range(offer.workers_per_machine)
        }
    return json.dumps(spec, separators=(",", ":"))


def _nanny(machine: int, slot: int, offer: Offer, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "cls": "distributed.Nanny",
        "opts": {
            "name": worker_name(machine, slot),
            **{name: value for name, value in options.items() if name != "dashboard"},
            "env": {"CUDA_VISIBLE_DEVICES": str(slot)} if offer.gpus else {},
        },
    }


def dask_config(pem: Pem, role: str) -> str:
    """Return the serialized Dask configuration of a process, with the TLS keys of its own role only.

    Args:
        pem: Key and certificate of the study.
        role: "scheduler" or "worker".
    """
    import dask

    content: dict[str, Any] = {"comm": pem.config(role)}
    if role == "scheduler":
        content["scheduler"] = {"allowed-failures": 0, "worker-ttl": WORKER_TTL}
    else:
        content["worker"] = {"memory": UNMANAGED_MEMORY, "profile": {"enabled": False}, "daemon": False}
    return str(dask.config.serialize({"distributed": content}))


def _with_config(pem: Pem, role: str) -> str:
    return f'env DASK_INTERNAL_INHERIT_CONFIG="{dask_config(pem, role)}"'


def container_environment(env: Mapping[str, str], spot_provider: str) -> dict[str, str]:
    """Return the environment variables of a container, escaped for dask-cloudprovider's template.

    Args:
        env: The user's variables; their values reach the container unchanged.
        spot_provider: Name of the service that announces preemptions; empty for machines on demand.
    """
    escaped = {name: cloud_init.variable(value) for name, value in env.items()}
    # Not escaped: the machine's shell expands it.
    escaped[LEASE_FILE] = LEASE_PATH
    return escaped | ({SPOT_PROVIDER: spot_provider} if spot_provider else {})


def default_image() -> str:
    """Return the name of Dask's own image for the local versions of Dask and Python."""
    from importlib.metadata import version

    return f"ghcr.io/dask/dask:{version('dask')}-py{sys.version_info.major}.{sys.version_info.minor}"


def default_environment(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return variables that make Dask's image install packages in their local versions when it starts."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in packages:
        try:
            # Without the local suffix, as in 2.6.0+cpu: the machine may need another build.
            found.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return {"EXTRA_PIP_PACKAGES": " ".join(found)}


# --- the scheduler's address ---


def scheduler_url(host: str) -> str:
    """Return the address of the scheduler on a machine, given by an IPv4 or IPv6 address or a name."""
    from distributed.comm.addressing import unparse_host_port

    return f"tls://{unparse_host_port(host, PORT)}"


async def is_listening(address: str) -> bool:
    """Return whether a scheduler accepts connections; unlike dask-cloudprovider's check, without blocking the loop."""
    from distributed.comm.addressing import parse_address, parse_host_port

    if not address:
        return False
    host, port = parse_host_port(parse_address(address)[1])
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return True
