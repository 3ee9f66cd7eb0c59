"""Random streams that depend on the study's seed, the trial, the epoch and the rank, and on nothing else."""

from __future__ import annotations

import hashlib
import random
import sys


def derive(*parts: int) -> int:
    """A seed of 63 bits from several numbers; each combination gives another."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_all(*parts: int) -> None:
    """Seed the global generators of Python, and of numpy and torch (all devices) where they are imported."""
    seed = derive(*parts)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.manual_seed(seed)
    else:
        # The same on CPU, without the 60 microseconds that asking for every other device takes.
        torch.default_generator.manual_seed(seed)
