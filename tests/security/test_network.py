"""A local study contacts no other computer: its processes open no connection and resolve no name beyond this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = """
import os, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        socket, address = arguments
        # Connecting a datagram socket sends nothing; Dask finds this computer's address that way.
        if event == "socket.connect" and socket.type & 15 == 2:
            return
        if not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost", ""):
            return
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
        if host in (None, "", "127.0.0.1", "::1", "0.0.0.0", "localhost", os.uname().nodename):
            return
    else:
        return
    with open(os.environ["TOLD"], "a") as file:
        file.write(f"{os.getpid()} {sys.argv[:3]} {event} {arguments[-1] if event[7] in 'cs' else arguments[0]!r}\\n")

sys.addaudithook(hook)
with open(os.environ["TOLD"] + ".hooked", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
STUDY = """
import importlib, pkgutil
import seer_nb as seer
import torch

LEFT_OUT = ("__main__", "loopback", "clouds")
for module in pkgutil.walk_packages(seer.__path__, "seer_nb."):
    if not any(part in LEFT_OUT for part in module.name.split(".")):
        importlib.import_module(module.name)

def train(config, run):
    model = run.prepare(torch.nn.Linear(1, 1))
    for _ in run.epochs():
        run.report(accuracy=config["x"])

if __name__ == "__main__":
    study = seer.Study(
        train, {"x": seer.uniform(0, 1)}, metric="accuracy", mode="max", max_epochs=2, deadline="40s", budget="$0.01",
        name="quiet", provider=seer.Local(max_workers=1), policy="random_search",
    ).start()
    import time
    while not study.state.best and study.status == "running":
        time.sleep(0.1)
    study.stop()
    study.wait()
    assert study.best is not None, study.reason
    study.dashboard()
    study.plot_curves().to_html()
    study.report("report.html")
    study.export("results.csv")
    study.forecast()
"""


@pytest.mark.slow
def test_local_study_contacts_no_other_computer(tmp_path):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "study.py").write_text(STUDY)
    told = tmp_path / "told"
    paths = [str(hook), str(Path(__file__).parents[2])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TOLD": str(told),
        "SEER_HOME": str(tmp_path / "studies"),
    }
    done = subprocess.run(
        [sys.executable, "study.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # The user's process, the runner, and the fork server of the workers.
    assert len(set((tmp_path / "told.hooked").read_text().split())) >= 3
    assert not told.exists() or told.read_text() == ""


def test_hook_detects_an_outgoing_connection(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 0.1)\nexcept OSError: pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TOLD": str(tmp_path / "told")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert "socket.connect ('192.0.2.1', 9)" in (tmp_path / "told").read_text()
