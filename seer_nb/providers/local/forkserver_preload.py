"""Imports what a training function needs, so that worker processes forked from this one start fast.

Nothing is computed here: that would start threads, and threads do not survive a fork.
"""

import contextlib
import gc
import importlib
import warnings

from seer_nb._utils.processes import adopt_orphans

# What a worker has started and left behind must be found when this process ends. The fork server warns when it reaps
# processes that it did not start.
adopt_orphans()
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")

# Imports create objects that stay: visiting them again and again would take a sixth of the time.
gc.disable()
importlib.import_module("seer_nb.providers.local.worker_process")

with contextlib.suppress(ImportError):  # a runner without torch still runs functions without torch
    import torch
    import torch.distributed
    import torch.nn.parallel
    import torch.optim
    import torch.utils.data

    # By name, because a provider may not import what its workers run.
    for module in ("seer_nb.worker.member", "seer_nb.worker.run"):
        importlib.import_module(module)

    if torch.version.cuda is None and torch.version.hip is None:
        # The first optimizer imports this, which takes a second in each worker. With GPUs the workers import it
        # themselves: a process that has queried GPUs cannot be forked.
        with contextlib.suppress(ImportError):
            import torch._dynamo

# Nor do the workers visit them.
gc.freeze()
gc.enable()
