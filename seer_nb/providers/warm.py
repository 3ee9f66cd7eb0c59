"""Imports what a training function needs, so that worker processes forked from here begin warm.

Only imports: a computation would start threads, and threads do not survive a fork.
"""

import contextlib

with contextlib.suppress(ImportError):  # a runner without torch still runs functions without torch
    import torch
    import torch.distributed
    import torch.nn.parallel
    import torch.optim
    import torch.utils.data

    import seer_nb.runner.member
    import seer_nb.training  # noqa: F401

    if torch.version.cuda is None and torch.version.hip is None:
        # The first optimizer imports it, which takes a second in each worker. Where there may be GPUs it is left to
        # them: a process that has asked for GPUs cannot be forked.
        with contextlib.suppress(ImportError):
            import torch._dynamo
