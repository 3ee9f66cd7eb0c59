"""What machines of all clouds begin with: the commands of a scheduler and of workers, with their keys; a watchdog."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from seer_nb._utils.environment import BOOT_TIME, LEASE_FILE, RUN_FOLDER
from seer_nb.core.model import worker_name
from seer_nb.providers.aws import iam
from seer_nb.providers.vm import cloud_init

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seer_nb.core.money import Offer
    from seer_nb.providers.vm.tls import Pem


FOLDER = f"${{{RUN_FOLDER}:-/run/seer}}"
"""Of the lease, as a shell sees it."""
LEASE = f"{FOLDER}/lease"
"""It holds the second since the machine's boot until which that may live: clocks on the wall may jump."""
EVERY_S = 2
BOOTED = f"${{{BOOT_TIME}:-0}}"
"""The second at which the machine booted: none has passed, unless it is one of the loopback cloud's."""


def command(boot_lease_s: float, lease: str = LEASE, end: str = "shutdown -h now") -> str:
    """Shell command that writes the first lease and starts to watch.

    Args:
        boot_lease_s: For so long the machine may boot before it hears of a runner. It is counted from its boot: much
            is installed before this command runs.
        lease: File that holds the lease.
        end: Command that ends the machine.
    """
    watch = f'while sleep {EVERY_S}; do [ "$(cut -d. -f1 /proc/uptime)" -lt "$(cat "$0")" ] || {end}; done'
    return (
        f'mkdir -p "$(dirname "{lease}")"; echo $(({BOOTED}+{round(boot_lease_s)})) > "{lease}"; '
        f"nohup sh -c '{watch}' \"{lease}\" > /dev/null 2>&1 &"
    )


PORT = 8786
STUDY_TAG = iam.TAG
IDENT_TAG = "seer:id"
MACHINE_TAG = "seer:machine"
DEATH_TIMEOUT_S = 60
"""A worker that does not reach its scheduler for so long ends, and its machine with it."""
SILENT_WORKER = "60s"
"""A worker that the scheduler does not hear of for so long counts as lost."""
DOCKER_ARGS = f"-v {FOLDER}:{FOLDER} --ipc=host"
HERE_ONLY = "127.0.0.1:0"
"""Where Dask's pages are: they are shown to whoever asks, and not every cloud has a firewall around its machines."""
SCHEDULER = (
    f"python -m distributed.cli.dask_scheduler --protocol tls --port {PORT} "
    f"--no-dashboard --no-show --dashboard-address {HERE_ONLY}"
)
PACKAGES = ("torch", "msgspec", "numpy")
"""That Dask's own image lacks."""


def tls(host: str) -> str:
    """Where the scheduler on a machine listens, whatever kind of address that has."""
    from distributed.comm.addressing import unparse_host_port

    return f"tls://{unparse_host_port(host, PORT)}"


def scheduler_command(pem: Pem) -> str:
    """The shell command of a scheduler."""
    return f"{_environment(pem, 'scheduler')} {SCHEDULER}"


def worker_command(pem: Pem, machine: int, offer: Offer, scheduler: str, **options: Any) -> str:
    """The command of a machine's workers, as it stands within single quotes in yaml.

    Args:
        pem: The study's keys.
        machine: Its number.
        offer: That it was rented as.
        scheduler: Its address, as workers reach it.
        **options: More of what a worker takes.
    """
    spec = json.dumps(worker_spec(machine, offer, **options), separators=(",", ":"))
    given = f"{cloud_init.word(scheduler)} --spec {cloud_init.word(spec)}"
    return f"{_environment(pem, 'worker')} python -m distributed.cli.dask_spec {given}"


def worker_spec(machine: int, offer: Offer, **more: Any) -> dict[str, Any]:
    """What ``distributed.cli.dask_spec`` is to run: a worker, or several, each with a process and a GPU of its own."""
    options = {
        "nthreads": 1,
        "memory_limit": 0,
        "dashboard": False,
        "dashboard_address": HERE_ONLY,
        "death_timeout": DEATH_TIMEOUT_S,
        **more,
    }
    if offer.workers_per_machine == 1:
        return {"cls": "distributed.Worker", "opts": {"name": worker_name(machine, 0), **options}}
    return {
        worker_name(machine, slot): {
            "cls": "distributed.Nanny",
            "opts": {
                "name": worker_name(machine, slot),
                **{name: value for name, value in options.items() if name != "dashboard"},
                "env": {"CUDA_VISIBLE_DEVICES": str(slot)} if offer.gpus else {},
            },
        }
        for slot in range(offer.workers_per_machine)
    }


def config(pem: Pem, role: str) -> str:
    """The Dask configuration of a process, with the keys of its own role, as Dask hands it on."""
    import dask

    content: dict[str, Any] = {"comm": pem.config(role)}
    if role == "scheduler":
        content["scheduler"] = {"allowed-failures": 0, "worker-ttl": SILENT_WORKER}
    else:
        memory = dict.fromkeys(("terminate", "pause", "spill", "target"), False)
        content["worker"] = {"memory": memory, "profile": {"enabled": False}, "daemon": False}
    return str(dask.config.serialize({"distributed": content}))


def _environment(pem: Pem, role: str) -> str:
    return f'env DASK_INTERNAL_INHERIT_CONFIG="{config(pem, role)}"'


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Of a machine's container, as its template must be given it: the user's, exactly as they are given ...

    ... and where the lease lies that its watchdog reads, for the machine's shell to say.
    """
    return {**{name: cloud_init.variable(value) for name, value in env.items()}, LEASE_FILE: LEASE}


def bootstrap(offer: Offer) -> list[str]:
    """What a machine does before its container starts: it begins to watch over itself."""
    # As JSON, which yaml takes for a text whatever is in it.
    return [json.dumps(command(offer.boot_lease_s))]


def have_no_scheduler(cluster: Any) -> None:
    """Set what is set when a scheduler is started: each worker wants it, for a command that is not ours."""
    cluster.scheduler_internal_ip = cluster.scheduler_external_ip = "0.0.0.0"  # noqa: S104 - listens nowhere
    cluster.scheduler_port = PORT


def let_go(cluster: Any) -> None:
    """The cluster object was never started, so there is nothing to close; only it must not warn of that."""
    from distributed.core import Status

    cluster.status = Status.closed


def default_image() -> str:
    """Dask's own image, of the versions that are here."""
    from importlib.metadata import version

    return f"ghcr.io/dask/dask:{version('dask')}-py{sys.version_info.major}.{sys.version_info.minor}"


def default_env(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Has Dask's image install what it lacks, in the versions that are here."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in packages:
        try:
            # A build for a certain GPU, such as 2.6.0+cpu, is not what is wanted there.
            found.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return {"EXTRA_PIP_PACKAGES": " ".join(found)}


async def listens(address: str) -> bool:
    """Whether a scheduler can be reached. Without blocking the loop, as dask-cloudprovider's own look does."""
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
