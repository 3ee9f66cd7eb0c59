"""Build Binder's environment from its own files: ``python -m tests.support.binder_environment FOLDER``.

Binder builds it with conda, which is not here: the same packages come from PyPI, under the names that they have there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
AHEAD = "SEER_BINDER_ENVIRONMENT"
"""Where it was built already, if it was."""
ON_PYPI = {"pytorch-cpu": "torch"}
BINDERS_OWN = ["ipykernel", "nbclient", "nbconvert"]
"""What Binder adds to every environment, as far as it is needed here."""
BUILD_S = 600
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "seer_studies"
)


def packages():
    """Names and versions of the packages, but for Python itself."""
    given = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    assert given["channels"] == ["conda-forge"]
    plain = [line for line in given["dependencies"] if isinstance(line, str)]
    assert any(line.startswith("python=") for line in plain)
    return [
        ON_PYPI.get(name, name) + line[len(name) :]
        for line in plain
        if (name := name_of(line)) not in {"python", "pip"}
    ]


def name_of(line):
    return line.split("=")[0].split(">")[0].split("<")[0].strip()


def variables(folder):
    """Return the environment variables of its processes."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SEER_", "COV", "PYTHON"))}
    return env | {
        "PATH": f"{folder / 'env' / 'bin'}:/usr/bin:/bin",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "0",
        "PIP_NO_COMPILE": "1",  # of what is installed little is imported
    }


def build(folder):
    """A copy of the repository, and an environment in which its postBuild was run."""
    repository = folder / "repository"
    shutil.copytree(ROOT, repository, ignore=LEFT_OUT)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    env = variables(folder)
    pip = ["python", "-m", "pip", "install", "--quiet", *packages(), *BINDERS_OWN]
    subprocess.run(pip, check=True, env=env, cwd=repository, timeout=BUILD_S)
    subprocess.run(["bash", "binder/postBuild"], check=True, env=env, cwd=repository, timeout=BUILD_S)


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute())
