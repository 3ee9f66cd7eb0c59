"""``python -m seer_nb.bench.faults.kernel FOLDER``: a process that starts a study there and lives on, as a kernel."""

import sys
import time
from pathlib import Path

from seer_nb.bench.faults.case import Case

if __name__ == "__main__":
    Case(Path(sys.argv[1]), "local", 0, {}).make().start()
    time.sleep(600)
