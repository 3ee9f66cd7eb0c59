"""Exceptions of seer_nb. Invalid arguments raise ValueError or TypeError instead."""


class SeerError(Exception):
    """Base class of all exceptions of seer_nb."""


class StudyNotFoundError(SeerError, LookupError):
    """The folder of studies holds no study of this name."""


class RunnerError(SeerError):
    """The runner could not be started, or it died."""


class CheckpointError(SeerError):
    """A checkpoint is missing, damaged, or belongs to another epoch."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint does not match its checksum, or belongs to another trial or epoch."""


class MissingCheckpointError(CheckpointError, OSError):
    """A checkpoint does not exist, or the store is currently unreadable."""


class StoreError(SeerError):
    """The store cannot be reached, read or written."""


class UntrustedError(SeerError):
    """Stored code of a study may come from someone else, so it is not run."""


class StudyEndedError(SeerError):
    """The study has ended and cannot be paused, stopped or pinned; `resume()` continues it if time is left."""


class StudyFailedError(SeerError):
    """The study failed; its results so far can still be read."""


class StopTraining(BaseException):
    """Raised by ``run.report()`` when training ends here and the function does not use ``run.epochs()``.

    It is not an `Exception`, so that ``except Exception`` does not catch it. After it was raised, training has ended
    normally, also if a framework catches it and returns or raises an exception of its own. Where a framework counts any
    exception as a failure, use ``run.report(..., stop="return")`` and `Run.should_stop`.
    """
