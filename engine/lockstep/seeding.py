"""Where randomness comes from: every generator is seeded from what is computed, never from who computes it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any, List

import numpy
import torch


def seed_for_load(seed: int) -> None:
    """Seeds as a plain script would (`torch.manual_seed(seed)`), so that it begins with the same weights."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_for(*words: object) -> None:
    """Seeds every generator from a hash of the words, such as (seed, step, "microbatch", 3)."""
    digest = hashlib.sha256(repr(words).encode("utf-8")).digest()
    random.seed(digest)
    numpy.random.seed(numpy.frombuffer(digest, dtype="<u4"))
    seed = int.from_bytes(digest[:8], "little")
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed would also note the seed, with a stack trace, for a CUDA that may never be started: half a
    # millisecond for every microbatch.
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


@dataclass
class GeneratorStates:
    """Where every generator stands that seed_for() seeds."""

    python: Any
    of_numpy: Any
    cpu: torch.Tensor
    devices: List[torch.Tensor]

    @staticmethod
    def now() -> "GeneratorStates":
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return GeneratorStates(random.getstate(), numpy.random.get_state(), torch.get_rng_state(), devices)

    def restore(self) -> None:
        random.setstate(self.python)
        numpy.random.set_state(self.of_numpy)
        torch.set_rng_state(self.cpu)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)


def seed_microbatch(seed: int, step: int, microbatch: int) -> None:
    seed_for("microbatch", seed, step, microbatch)
