"""The task of a gang's member, and the records that workers send to the runner besides the engine's events."""

from __future__ import annotations

from seer_nb.core import Config, Frozen, Outcome

TOPIC = "seer_nb"
"""Dask event topic on which workers and the scheduler send their records to the runner."""


class MemberTask(Frozen, frozen=True, kw_only=True):
    """Task of one gang member: what it trains, and with which workers."""

    gang: int
    """Number of the gang."""
    trial: int
    """Number of the trial."""
    config: Config
    rank: int
    world_size: int
    store_host: str
    """Address of the gang's TCPStore: the worker of rank 0."""
    store_port: int
    from_epoch: int
    """Epoch of the checkpoint; 0 starts a new training."""
    checkpoint: str | None
    """Path of the checkpoint relative to the store; "" if the function keeps no state, None if none is recorded."""
    until: int
    """Epoch after which the gang ends, unless the runner changes it."""
    max_epochs: int
    metric: str
    seed: int
    store: str
    """fsspec URL of the folder of checkpoints."""
    is_restart: bool = False
    """Whether an earlier gang has trained the trial, and may have stored epochs that the runner does not know."""
    logs: str | None = None
    """Folder for the output of trials; None leaves the output to the worker."""
    timeout_s: float = 30.0
    """Seconds after which a collective without all its members fails."""
    store_retry_s: float = 45.0
    """Seconds in which saving or loading a required checkpoint is retried while the store cannot be used."""


class MemberEnded(Frozen, frozen=True, kw_only=True, tag=True):
    """A member has left the training function."""

    gang: int
    rank: int
    outcome: Outcome
    error: str = ""
    """Traceback, if the outcome is a failure."""
    collective: bool = False
    """Whether the error came out of a collective: then another member has probably caused it."""
    broken: bool = False
    """Whether the member's process cannot train any more."""


class WorkerReady(Frozen, frozen=True, kw_only=True, tag=True):
    """A worker has warmed up and loaded the training function."""

    worker: str
    """Dask name of the worker."""
    address: str
    store_port: int
    """Port of the worker's TCPStore, see `seer_nb.worker.rendezvous.host_store`."""
    pid: int
    error: str = ""
    """Traceback, if warming up or loading the function failed."""


class WorkerLeft(Frozen, frozen=True, kw_only=True, tag=True):
    """A worker has left the scheduler, or its connection was lost."""

    address: str


class PreemptionNotice(Frozen, frozen=True, kw_only=True, tag=True):
    """The provider has announced that it will preempt a worker's machine."""

    worker: str
    """Dask name of the worker."""
    left_s: float
    """Seconds until the machine is terminated."""
    reason: str
