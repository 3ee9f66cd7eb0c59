"""``python -m seer_nb.bench.faults.run_one NAME WHERE SEED``: one study with one fault; prints its verdict as json."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from seer_nb._utils.environment import FAULTS_NETWORK
from seer_nb.bench.faults import inject_networks
from seer_nb.bench.faults.case import LIMIT_S, Case
from seer_nb.bench.faults.catalog import by_name
from seer_nb.bench.faults.verdict import Verdict, judge


def _out_of_time(*_: object) -> None:
    raise TimeoutError(f"no verdict within {LIMIT_S:.0f} s")


def run(name: str, where: str, seed: int) -> Verdict:
    """One study with one fault, in a folder that is thrown away."""
    fault = by_name(name)
    began_s = time.monotonic()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    with tempfile.TemporaryDirectory(prefix="seer-faults-", ignore_cleanup_errors=True) as folder:
        case = Case(Path(folder), where, seed, fault.options)
        try:
            fault.strike(case)
            found = judge(case, fault, where, seed)
        except Exception:  # noqa: BLE001 - a crash is a finding
            found = Verdict(name, where, seed, None, 0, 0, 0, 0.0, 0, wrong=traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            case.close()
    return found._replace(took_s=time.monotonic() - began_s)


def main(name: str, where: str, seed: str) -> None:
    """In a network of its own, if the fault wants one."""
    if by_name(name).network and not os.environ.get(FAULTS_NETWORK):
        inject_networks.enter([sys.executable, "-m", "seer_nb.bench.faults.run_one", name, where, seed])
    print(json.dumps(run(name, where, int(seed))._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:4])
