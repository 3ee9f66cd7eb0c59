"""Errors that seer_nb raises on purpose."""


class SeerError(Exception):
    """Root of the errors that are not about an argument."""


class StudyNotFoundError(SeerError, LookupError):
    """No study of that name lies in the studies' folder."""


class RunnerError(SeerError):
    """The runner could not be started, or died."""


class CheckpointError(SeerError):
    """A checkpoint is missing, damaged, or not of the recorded epoch."""


class DamagedCheckpointError(CheckpointError):
    """What was stored is not what was written, or of another trial or epoch."""


class MissingCheckpointError(CheckpointError, OSError):
    """There is no such checkpoint, or the store cannot be read now."""


class StoreError(SeerError):
    """The store cannot be reached, read or written to."""


class UntrustedError(SeerError):
    """What is stored of a study may have been written by somebody else, so it is not run."""


class StudyEndedError(SeerError):
    """The study has ended, so there is nothing to pause, stop or pin; ``resume()`` goes on if there is time left."""


class StudyFailedError(SeerError):
    """The study ended early because of a fault; its results so far can still be read."""
