"""Where machines live: a folder each, and the environment of what runs there."""

from __future__ import annotations

import os
import shutil
import site
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seer_nb.loopback.guard import MARK
from seer_nb.loopback.tools import write_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LD_LIBRARY_PATH", "TZ")
"""What the interpreter may need, and what times are printed in."""


@dataclass(frozen=True, slots=True)
class Home:
    """A machine's: what its processes are found by, its folder, and its processes' environment."""

    mark: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def shutdown(self) -> Path:
        """The file by which a machine asks to be ended."""
        return Path(self.environment["SEER_LOOPBACK_SHUTDOWN"])


class Homes:
    """Those of all machines of a cloud.

    Args:
        cloud: Its name, unlike any other's.
        folder: Where machines have their folders; None for the scratch folder.
        scratch: Where they have their tools and temporary files. Not in their folders, whose paths may be too long for
            sockets.
        editable: Whether Python finds there what is installed on this computer in editable mode.
        surroundings: The cloud's part of a machine's environment, by the instance's id.
    """

    def __init__(
        self,
        cloud: str,
        folder: Path | None,
        scratch: Path,
        surroundings: Callable[[str], Mapping[str, str]],
        *,
        editable: bool,
    ) -> None:
        self._cloud = cloud
        self._folder = folder or scratch / "machines"
        self._scratch = scratch
        self._surroundings = surroundings
        self._packages = {} if editable else {"SEER_LOOPBACK_PACKAGES": os.pathsep.join(_packages())}
        write_tools(scratch / "tools")

    def furnish(self, instance_id: str, address: str) -> Home:
        """Make the home of a new machine."""
        mark = f"{self._cloud}/{instance_id}/"
        folder, temporary = self._folder / instance_id, self._scratch / instance_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        temporary.mkdir(mode=0o700)
        own = {
            MARK: mark,
            "PATH": f"{self._scratch / 'tools'}:{_PATH}",
            "HOME": str(folder),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "SEER_RUN": str(folder / "run"),
            # All machines here have this computer's clock since its boot.
            "SEER_BOOT": str(int(time.clock_gettime(time.CLOCK_BOOTTIME))),
            "SEER_LOOPBACK_ADDRESS": address,
            "SEER_LOOPBACK_PYTHON": sys.executable,
            "SEER_LOOPBACK_SHUTDOWN": str(folder / "shutdown"),
        }
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return Home(mark, folder, {**kept, **own, **self._packages, **self._surroundings(instance_id)})


def _packages() -> list[str]:
    """Where packages are installed, without what .pth files add."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    return [folder for folder in folders if Path(folder).is_dir()]
