"""``python -m seer_nb.bench.faults.one NAME WHERE SEED``: one study with one fault; prints its verdict as json."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

from seer_nb.bench.faults.case import Case
from seer_nb.bench.faults.catalog import by_name
from seer_nb.bench.faults.verdict import Verdict, judge


def run(name: str, where: str, seed: int) -> Verdict:
    """One study with one fault, in a folder that is thrown away."""
    fault = by_name(name)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seer-faults-", ignore_cleanup_errors=True) as folder:
        case = Case(Path(folder), where, seed, fault.options)
        try:
            fault.strike(case)
            found = judge(case, fault, where, seed)
        except Exception:  # noqa: BLE001 - a crash is a finding
            found = Verdict(name, where, seed, None, 0, 0, 0, 0.0, 0, wrong=traceback.format_exc())
        finally:
            case.close()
    return found._replace(took_s=time.monotonic() - began_s)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))._asdict()))
