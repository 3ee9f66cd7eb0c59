"""``python -m seer_nb.bench.faults.kernel FOLDER``: start a study in FOLDER and keep running, like a kernel."""

import sys
import time
from pathlib import Path

from seer_nb.bench.faults.case import Case

if __name__ == "__main__":
    Case(Path(sys.argv[1]), "local", 0, {}).make().start()
    time.sleep(600)
