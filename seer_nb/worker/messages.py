"""What the runner tells the members of a gang, and what they tell it besides the engine's own events."""

from __future__ import annotations

from seer_nb.core import Config, Frozen, Outcome

TOPIC = "seer_nb"
"""Dask event topic on which workers and the scheduler send their records to the runner."""


class MemberTask(Frozen, frozen=True, kw_only=True):
    """What one member of a gang is to do."""

    gang: int
    trial: int
    config: Config
    rank: int
    world_size: int
    store_host: str
    """Where the gang's TCPStore listens: on the worker of rank 0."""
    store_port: int
    from_epoch: int
    """The epoch that the checkpoint must hold; 0: begin anew."""
    checkpoint: str | None
    """Relative to the store; "" when the function keeps no state."""
    until: int
    max_epochs: int
    metric: str
    seed: int
    store: str
    """fsspec URL of the checkpoints' folder."""
    again: bool = False
    """Whether an earlier gang has trained the trial, and may have stored more than the runner has heard of."""
    logs: str | None = None
    """Folder for what trials print; None: the worker's own output."""
    timeout_s: float = 30.0
    """After so long a collective without all its members fails."""
    store_patience_s: float = 45.0
    """So long a checkpoint that matters is tried to be stored, or loaded, while the store cannot be used."""


class MemberEnded(Frozen, frozen=True, kw_only=True, tag=True):
    """One member has left its function."""

    gang: int
    rank: int
    outcome: Outcome
    error: str = ""
    """The traceback, for failed."""
    collective: bool = False
    """Whether the error came out of a collective: then it is likely the echo of another member's fault."""
    broken: bool = False
    """Whether its process cannot train any more."""


class WorkerReady(Frozen, frozen=True, kw_only=True, tag=True):
    """A worker has warmed up and loaded the training function."""

    worker: str
    address: str
    store_port: int
    pid: int
    error: str = ""
    """Traceback when the function could not be loaded."""


class WorkerLeft(Frozen, frozen=True, kw_only=True, tag=True):
    """The scheduler has lost a worker, or let it go."""

    address: str


class Notice(Frozen, frozen=True, kw_only=True, tag=True):
    """The provider will take a worker's machine away."""

    worker: str
    left_s: float
    reason: str
