"""From sample ids to a batch on the device, and the hash of what was really read."""

from __future__ import annotations

import hashlib
import struct
from itertools import repeat
from operator import getitem
from typing import Any, Callable, List, Sequence

import torch

from lockstep.failures import engine_error, user_code, user_error


class SampleReader:
    """Reads samples from the user's data set and remembers which ids it read."""

    def __init__(self, dataset: Any, length: int) -> None:
        self.dataset = dataset
        self.length = length

    def read(self, ids: Sequence[int], consumed: "Consumed") -> List[Any]:
        if ids and max(ids) >= self.length:
            raise engine_error("compute", f"sample {max(ids)} does not exist: the data set has {self.length}")
        samples: List[Any] = []
        # One block around all of them, and no loop in Python: both take longer than reading a small sample.
        with user_code("dataset", lambda: f"dataset()[{ids[len(samples)]}]"):
            samples.extend(map(getitem, repeat(self.dataset), ids))
        if len(samples) < len(ids):
            # To extend() it is the end of what is read, not an error.
            raise user_error("dataset", f"dataset()[{ids[len(samples)]}] raised StopIteration")
        consumed.add(ids)
        return samples


class Consumed:
    """sha256 over the sample ids read for one microbatch, as little-endian unsigned 64-bit integers."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def add(self, ids: Sequence[int]) -> None:
        self.sha256.update(struct.pack(f"<{len(ids)}Q", *ids))

    def text(self) -> str:
        """The first 8 bytes, as 16 hexadecimal digits."""
        return self.sha256.hexdigest()[:16]


def make_batch(collate: Callable[[Sequence[Any]], Any], samples: Sequence[Any], device: torch.device) -> Any:
    with user_code("collate"):
        batch = collate(samples)
    return batch if device.type == "cpu" else to_device(batch, device)


def to_device(value: Any, device: torch.device) -> Any:
    """Moves every tensor in a batch of (nested) tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        # Waited for: a data set may write its next sample to where this one lay.
        return value.to(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(to_device(item, device) for item in value)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return value
