"""Binder's environment, built from its own files, runs the notebooks within Binder's limits.

Binder builds it with conda, which is not here: the same packages come from PyPI, under the names that they have there.
"""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[1]
ON_PYPI = {"pytorch-cpu": "torch"}
BINDERS_OWN = ["ipykernel", "nbclient", "nbconvert"]
"""What Binder adds to every environment, as far as it is needed here."""
MOST_MB = 1500
"""Of memory: Binder ends what takes more than 2 GB, and promises one."""
BUILD_S, RUN_S = 600, 180
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "seer_studies"
)


def environment():
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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the repository, and an environment in which its postBuild was run."""
    folder = tmp_path_factory.mktemp("binder")
    repository = folder / "repository"
    shutil.copytree(ROOT, repository, ignore=LEFT_OUT)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SEER_", "COV", "PYTHON"))}
    env |= {
        "PATH": f"{folder / 'env' / 'bin'}:/usr/bin:/bin",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "0",
    }
    pip = ["python", "-m", "pip", "install", "--quiet", *environment(), *BINDERS_OWN]
    subprocess.run(pip, check=True, env=env, cwd=repository, timeout=BUILD_S)
    subprocess.run(["bash", "binder/postBuild"], check=True, env=env, cwd=repository, timeout=BUILD_S)
    short = {"QUICKSTART_DEADLINE": "15s", "CLOUD_DEADLINE": "50s", "MEM_LIMIT": str(2 << 30)}
    return repository, {**env, **short, "SEER_HOME": str(folder / "studies")}


@pytest.mark.xdist_group("binder")
@pytest.mark.timeout(BUILD_S + 2 * RUN_S)
@pytest.mark.parametrize("name", ["quickstart", "cloud"])
def test_a_notebook_runs_in_it_within_its_memory(built, name):
    repository, env = built
    command = ["jupyter", "nbconvert", "--to", "html", "--execute", f"notebooks/{name}.ipynb", "--output-dir", "out"]
    process = subprocess.Popen(command, cwd=repository, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    memory = Memory(process.pid)
    said, _ = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, said.decode()
    page = (repository / "out" / f"{name}.html").read_text()
    assert "■ ended" in page
    assert memory.stop() < MOST_MB


class Memory:
    """The most that a process and its children take at a time, in MB; memory that they share counts once."""

    def __init__(self, pid):
        self._root = psutil.Process(pid)
        self._most = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(0.5):
            self._most = max(self._most, self._now())

    def _now(self):
        total = 0
        with suppress(psutil.Error):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
        return total / 1e6

    def stop(self):
        self._ended.set()
        self._thread.join()
        return self._most
