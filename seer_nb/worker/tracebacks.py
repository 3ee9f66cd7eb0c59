"""Errors and stacks of a training function: without seer_nb's frames, and whether another rank caused the error."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


_OWN_FOLDERS = (
    str(Path(__file__).parent),
    str(Path(__file__).parent.parent / "storage"),
    str(Path(__file__).parent.parent / "_utils"),
)
_STORING_FILES = frozenset({"checkpoints.py", "checkpointing.py", "retry.py"})
_BARRIER_FILE = "rendezvous.py"
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
LONGEST = 16_384
"""Characters of a traceback that are kept; the middle of a longer one is left out."""
LONGEST_LINE = 1_000
"""Characters of a line that are kept, for example of a printed tensor."""
_COLLECTIVE_ERRORS = (
    "gloo/",
    "connection closed by peer",
    "connection reset by peer",
    "nccl error",
    "broken pipe",
    "tcpstore",
)


def format_error(error: BaseException) -> str:
    """Format a traceback as Python prints it, without seer_nb's frames around the user's."""
    summary = traceback.TracebackException.from_exception(error)
    linked: traceback.TracebackException | None = summary
    while linked is not None:
        _trim(linked.stack)
        linked = linked.__cause__ or linked.__context__
    # Without a frame of the user's, the message alone is enough.
    text = "".join(summary.format() if summary.stack else summary.format_exception_only())
    lines = [_shorten(line, LONGEST_LINE) for line in text.split("\n")]
    # A lone surrogate, which file names may contain, can be neither sent nor stored.
    return _shorten("\n".join(lines), LONGEST, "\n").encode(errors="backslashreplace").decode()


def format_stack(frame: FrameType) -> str:
    """Format the stack of a training function, without the frames that called it."""
    return "".join(_user_stack(frame).format())


def describe_position(frame: FrameType) -> str:
    """Describe in a few words where a training function is: the user's innermost line, or what it waits for."""
    files = {Path(inner.f_code.co_filename).name for inner in _own_frames(frame)}
    if files & _STORING_FILES:
        return "waiting for the checkpoint store"
    if _BARRIER_FILE in files:
        return "waiting for the other members of the gang"
    stack = _user_stack(frame)
    if not stack:
        return "about to call the training function"
    line = next((line for line in reversed(stack) if not line.filename.startswith(_LIBRARIES)), stack[-1])
    code = f": {line.line}" if line.line else ""
    return f"at {Path(line.filename).name}:{line.lineno}, in {line.name}{code}"


def _own_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield seer_nb's frames, innermost first."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OWN_FOLDERS):
            yield frame
        frame = frame.f_back


def _user_stack(frame: FrameType) -> traceback.StackSummary:
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
    stack.reverse()
    callers = [place for place, line in enumerate(stack) if line.filename == str(Path(__file__).with_name("member.py"))]
    del stack[: callers[-1] + 1 if callers else 0]
    _trim(stack)
    return stack


def _shorten(text: str, longest: int, around: str = "") -> str:
    left_out = len(text) - longest
    if left_out <= 0:
        return text
    note = f"{around}... ({left_out} characters left out) ...{around}"
    return f"{text[: longest // 4]}{note}{text[-longest * 3 // 4 :]}"


def is_collective_error(error: BaseException) -> bool:
    """Return whether an error came out of torch.distributed: then another rank has probably caused it."""
    dist = sys.modules.get("torch.distributed")
    kinds: tuple[type[BaseException], ...] = (dist.DistError,) if dist is not None else ()
    return any(isinstance(link, kinds) or _has_collective_message(link) for link in _chain(error))


def _trim(stack: traceback.StackSummary) -> None:
    while stack and stack[0].filename.startswith(_OWN_FOLDERS):
        del stack[0]
    # Frames below the user's last line, such as those of run.report().
    while stack and stack[-1].filename.startswith(_OWN_FOLDERS):
        del stack[-1]


def _has_collective_message(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    try:
        text = str(error).lower()
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return False
    return any(part in text for part in _COLLECTIVE_ERRORS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
