"""What to tell of an error in a training function: the user's part of the traceback, and if another rank caused it."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


_OWN = (
    str(Path(__file__).parent),
    str(Path(__file__).parent.parent / "storage"),
    str(Path(__file__).parent.parent / "_utils"),
)
_STORING = frozenset({"checkpoints.py", "checkpointing.py", "retry.py"})
_MEETING = "rendezvous.py"
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
LONGEST = 16_384
"""Characters of a traceback that are kept; of a longer one the middle is left out."""
LONGEST_LINE = 1_000
"""Of a longer line, such as a printed tensor, the middle is left out too."""
_ECHOES = ("gloo/", "connection closed by peer", "connection reset by peer", "nccl error", "broken pipe", "tcpstore")


def describe(error: BaseException) -> str:
    """The traceback as Python prints it, without seer_nb's own frames around those of the user."""
    told = traceback.TracebackException.from_exception(error)
    linked: traceback.TracebackException | None = told
    while linked is not None:
        _trim(linked.stack)
        linked = linked.__cause__ or linked.__context__
    # Without a line of the user's there is nothing to trace: the sentence says it all.
    text = "".join(told.format() if told.stack else told.format_exception_only())
    lines = [_shorten(line, LONGEST_LINE) for line in text.split("\n")]
    # Half of a character that takes two, as file names can have it, can be neither sent nor stored.
    return _shorten("\n".join(lines), LONGEST, "\n").encode(errors="backslashreplace").decode()


def where(frame: FrameType) -> str:
    """Where a training function stands, without the frames that called it."""
    return "".join(_within(frame).format())


def standing(frame: FrameType) -> str:
    """The same in a few words: the innermost line that is the user's own, or that it waits for others than itself."""
    files = {Path(inner.f_code.co_filename).name for inner in _own(frame)}
    if files & _STORING:
        return "it waits for the store"
    if _MEETING in files:
        return "it waits for the gang's other members at its report"
    stack = _within(frame)
    if not stack:
        return "it is about to begin"
    line = next((line for line in reversed(stack) if not line.filename.startswith(_LIBRARIES)), stack[-1])
    code = f": {line.line}" if line.line else ""
    return f"it stands at {Path(line.filename).name}:{line.lineno}, in {line.name}{code}"


def _own(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of seer_nb."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_OWN):
            yield frame
        frame = frame.f_back


def _within(frame: FrameType) -> traceback.StackSummary:
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


def of_collective(error: BaseException) -> bool:
    """Whether an error came out of torch.distributed: then it is likely the echo of another rank's fault."""
    dist = sys.modules.get("torch.distributed")
    kinds: tuple[type[BaseException], ...] = (dist.DistError,) if dist is not None else ()
    return any(isinstance(link, kinds) or _sounds_like_echo(link) for link in _chain(error))


def _trim(stack: traceback.StackSummary) -> None:
    while stack and stack[0].filename.startswith(_OWN):
        del stack[0]
    # What is left below the user's last line: the inside of run.report() and the like.
    while stack and stack[-1].filename.startswith(_OWN):
        del stack[-1]


def _sounds_like_echo(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    try:
        text = str(error).lower()
    except Exception:  # noqa: BLE001 - whatever a user's __str__ raises
        return False
    return any(echo in text for echo in _ECHOES)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
