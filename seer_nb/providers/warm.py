"""Imports what a training function needs, so that worker processes forked from here begin warm.

Only imports: a computation would start threads, and threads do not survive a fork.
"""

import contextlib

with contextlib.suppress(ImportError):  # a runner without torch still runs functions without torch
    import torch
    import torch.distributed
    import torch.nn.parallel
    import torch.optim
    import torch.utils.data  # noqa: F401

    import seer_nb.runner.member
    import seer_nb.training  # noqa: F401
