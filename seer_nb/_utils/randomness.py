"""Seeds of random streams, derived from integers such as the study's seed, the trial, the epoch and the rank."""

from __future__ import annotations

import hashlib
import random
import sys


def derive_seed(*parts: int) -> int:
    """Return a 63-bit seed derived from several integers; each combination gives a different seed."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_all(*parts: int) -> None:
    """Seed the global generators of Python, and those of numpy and torch (all devices) if they are imported."""
    seed = derive_seed(*parts)
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
        # Equivalent on CPU, without the 60 microseconds that torch needs to ask every other device.
        torch.default_generator.manual_seed(seed)
