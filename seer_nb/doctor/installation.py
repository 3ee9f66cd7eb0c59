"""Whether Python and the packages are those that seer_nb was made for."""

from __future__ import annotations

import sys
from importlib import metadata
from platform import python_version
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from seer_nb.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMS = {"linux": "Linux", "darwin": "macOS"}
FOR_OTHERS = frozenset({"test", "dev"})
"""Extras that nobody needs to run a study."""
PACKAGE = "seer_nb"


def check() -> Iterator[Finding]:
    """The system, Python, the packages that are always needed, and those of the extras."""
    if sys.platform not in SYSTEMS:
        yield Finding("system", "problem", f"{sys.platform} is not supported", "use Linux or macOS; on Windows use WSL")
    try:
        about = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "seer_nb is not installed, only found on the path", "pip install -e .")
        return
    yield _python(about["Requires-Python"] or "")
    needs = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    yield _packages(needs)
    for extra in about.get_all("Provides-Extra") or ():
        if extra not in FOR_OTHERS:
            yield from _extra(extra, needs)


def lacks(need: Requirement) -> str:
    """What is wrong with a package that is needed; empty if nothing is."""
    try:
        found = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return f"{need.name} is missing"
    fits = need.specifier.contains(found, prereleases=True)
    return "" if fits else f"{need.name} {found} is not within {need.specifier}"


def _python(allowed: str) -> Finding:
    fits = SpecifierSet(allowed).contains(python_version(), prereleases=True)
    if fits:
        return Finding("python", "ok", f"{python_version()}, within {allowed}")
    return Finding("python", "problem", f"{python_version()} is not within {allowed}", "make an environment with one")


def _packages(needs: list[Requirement]) -> Finding:
    always = [need for need in needs if _wanted(need, "")]
    wrong = list(filter(None, map(lacks, always)))
    if wrong:
        return Finding("packages", "problem", ", ".join(wrong), "pip install --upgrade seer_nb brings what fits")
    return Finding("packages", "ok", f"seer_nb {metadata.version(PACKAGE)}, and all {len(always)} that it needs")


def _extra(extra: str, needs: list[Requirement]) -> Iterator[Finding]:
    """Nothing of one that is not installed: nobody needs all of them."""
    own = [need for need in needs if not _wanted(need, "") and _wanted(need, extra)]
    wrong = [text for need in own if need.name != PACKAGE and (text := lacks(need))]
    if own and not wrong:
        yield Finding("packages", "ok", f"the extra [{extra}] is installed")
    elif any("within" in text for text in wrong):
        yield Finding("packages", "warning", f"of the extra [{extra}] {', '.join(wrong)}", _install(extra))


def _wanted(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _install(extra: str) -> str:
    return f'pip install "seer_nb[{extra}]" if you want to use it'
