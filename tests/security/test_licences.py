"""Licences of all required packages are compatible with seer_nb's."""

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

ALLOWED = re.compile(
    r"\b(apache|mit|mit-0|bsd|0bsd|isc|iscl|psf|psfl|python software foundation|mpl|mozilla public|cnri-python|zlib|"
    r"bsl-1\.0|cc0-1\.0|unlicense|hpnd)\b",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(
    r"\b(?:a?gpl|gnu (?:affero )?general public|sspl|busl|proprietary|commons clause)", re.IGNORECASE
)
EXTRAS = ("aws", "export", "loopback", "notebook")
NVIDIA = re.compile(r"nvidia-|cuda-toolkit$")
"""CUDA libraries, which come with GPU builds of torch under NVIDIA's own licence, and their meta-package."""


def licence(found):
    """Return a package's licence expression, or its classifiers, or the start of its licence text."""
    meta = found.metadata
    classifiers = [each for each in meta.get_all("Classifier") or [] if each.startswith("License ::")]
    text = (meta.get("License") or "").strip()
    return meta.get("License-Expression") or "; ".join(each.split(" :: ")[-1] for each in classifiers) or text[:200]


def required_packages():
    """Return all installed packages that seer_nb requires, directly or indirectly."""
    found, left = {}, [("seer_nb", extra) for extra in ("", *EXTRAS)]
    done = set()
    while left:
        name, extra = left.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another system, or for an extra that is not installed
            continue
        found[package.metadata["Name"]] = package
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(need.name, each) for each in ("", *need.extras)]
    return found


def test_every_required_package_has_an_allowed_licence():
    packages = required_packages()
    assert len(packages) > 40
    licences = {name: licence(package) for name, package in packages.items() if not NVIDIA.match(name)}
    bad = {name: text for name, text in licences.items() if FORBIDDEN.search(text) or not ALLOWED.search(text)}
    assert bad == {}


def test_forbidden_and_unknown_licences_are_detected():
    for text in ("GPL-3.0-only", "GNU Affero General Public License v3", "AGPLv3+", "Proprietary", "SSPL-1.0"):
        assert FORBIDDEN.search(text)
    for text in ("", "UNKNOWN", "Custom"):
        assert not ALLOWED.search(text)
