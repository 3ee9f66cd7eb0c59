"""What seer_nb brings along may be used as seer_nb may: the licence of every package that is installed with it."""

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
NVIDIA = "nvidia-"
"""CUDA's libraries, which torch's builds for GPUs bring along, have NVIDIA's own licence."""


def licence(found):
    """In words: the expression, else what the classifiers say, else the first line of the text."""
    meta = found.metadata
    classifiers = [each for each in meta.get_all("Classifier") or [] if each.startswith("License ::")]
    text = (meta.get("License") or "").strip()
    return meta.get("License-Expression") or "; ".join(each.split(" :: ")[-1] for each in classifiers) or text[:200]


def brought():
    """Names of the packages that seer_nb needs, with all that those need, as far as they are installed."""
    found, left = {}, [("seer_nb", extra) for extra in ("", *EXTRAS)]
    done = set()
    while left:
        name, extra = left.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another system, or an extra that is not installed
            continue
        found[package.metadata["Name"]] = package
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                left += [(need.name, each) for each in ("", *need.extras)]
    return found


def test_every_licence_is_known_and_allowed():
    packages = brought()
    assert len(packages) > 40
    licences = {name: licence(package) for name, package in packages.items() if not name.startswith(NVIDIA)}
    bad = {name: text for name, text in licences.items() if FORBIDDEN.search(text) or not ALLOWED.search(text)}
    assert bad == {}


def test_what_would_be_refused():
    for text in ("GPL-3.0-only", "GNU Affero General Public License v3", "AGPLv3+", "Proprietary", "SSPL-1.0"):
        assert FORBIDDEN.search(text)
    for text in ("", "UNKNOWN", "Custom"):
        assert not ALLOWED.search(text)
