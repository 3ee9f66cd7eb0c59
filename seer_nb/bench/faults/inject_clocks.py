"""The computer's clock is set while a study runs.

The clock of this computer is not ours to set, and no namespace has one of its own. So what asks the system for the time
of day, in the runner and in all that it starts, is answered by a small library that is loaded before the system's: it
adds an offset that this module changes. Clocks that nobody can set are left alone, as they would be. It does not reach
timers that wait for a time of day within the kernel; seer_nb has none.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from seer_nb._utils import environment
from seer_nb.bench.faults.case import kill
from seer_nb.bench.faults.fault import LOCAL, Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seer_nb.bench.faults.case import Case


HOUR_S = 3600
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SEER_FAULTS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += *offset;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* A wait until a time of day, by the clock that is shown, is one until the same moment by the kernel's. */
int pthread_cond_timedwait(void *condition, void *lock, const struct timespec *until) {
    static int (*real)(void *, void *, const struct timespec *);
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec moved = *until;
    if (offset && moved.tv_sec > 1000000000) moved.tv_sec -= *offset; /* others count from the computer's start */
    return real(condition, lock, &moved);
}
"""


class FalseClock:
    """The time of day as the study sees it.

    Args:
        folder: For the library.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = folder / "clock.so"
        self.set(0)
        source = folder / "clock.c"
        source.write_text(SOURCE)
        command = ("cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(self._library), str(source), "-ldl")
        subprocess.run(command, check=True)

    @property
    def environment(self) -> dict[str, str]:
        """With which processes see it."""
        return {"LD_PRELOAD": str(self._library), environment.FAULTS_CLOCK: str(self._file)}

    def set(self, offset_s: int) -> None:
        """Show so many seconds more than there are."""
        file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(file, offset_s.to_bytes(8, "little", signed=True), 0)
        os.close(file)


def _jumps(offset_s: int, *, then_kill: bool = False) -> Callable[[Case], None]:
    """Of a study's runner and workers."""

    def strike(case: Case) -> None:
        clock = FalseClock(case.folder)
        os.environ.update(clock.environment)
        case.start()
        case.underway()
        case.later()
        case.hit()
        clock.set(offset_s)
        if then_kill:
            kill(case.runner())
            case.until(lambda: case.study.status == "interrupted", "the runner's death")
            case.study.resume()
        for name in clock.environment:
            del os.environ[name]

    return strike


def _fault(name: str, strike: Callable[[Case], None], within_s: float | None = 10.0) -> Fault:
    return Fault(name, strike, (LOCAL,), within_s=within_s, needs=("cc",))


FAULTS = [
    _fault("the clock is set an hour forward", _jumps(HOUR_S)),
    _fault("the clock is set an hour back", _jumps(-HOUR_S)),
    _fault("the clock is set an hour forward, and the runner is killed", _jumps(HOUR_S, then_kill=True), None),
    _fault("the clock is set an hour back, and the runner is killed", _jumps(-HOUR_S, then_kill=True), None),
]
