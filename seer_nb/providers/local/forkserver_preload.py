"""Imports what a training function needs, so that worker processes forked from here begin warm.

Only imports: a computation would start threads, and threads do not survive a fork.
"""

import contextlib
import importlib

with contextlib.suppress(ImportError):  # a runner without torch still runs functions without torch
    import torch
    import torch.distributed
    import torch.nn.parallel
    import torch.optim
    import torch.utils.data

    # By their names: a provider knows nothing of what its workers run.
    for module in ("seer_nb.worker.member", "seer_nb.worker.run"):
        importlib.import_module(module)

    if torch.version.cuda is None and torch.version.hip is None:
        # The first optimizer imports it, which takes a second in each worker. Where there may be GPUs it is left to
        # them: a process that has asked for GPUs cannot be forked.
        with contextlib.suppress(ImportError):
            import torch._dynamo
