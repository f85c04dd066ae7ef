"""The exchange memory: a file without a name that the daemon and the engine both map."""

from __future__ import annotations

import mmap
import os
from typing import Optional

import torch

from lockstep import pinned_memory
from lockstep.failures import engine_error


class ExchangeMemory:
    """Gives views of regions of a memory file. The file is mapped once, and again only when it has grown.

    With a CUDA device the mapping is pinned where the system allows it.
    """

    def __init__(self, fd: int, device: torch.device) -> None:
        self.fd = fd
        self.device = device
        self.mapping: Optional[mmap.mmap] = None
        self.pinned = False

    def region(self, at: int, length: int) -> torch.Tensor:
        """A uint8 tensor over `length` bytes of the file from `at` on; writes to it are seen by the daemon."""
        end = at + length
        if self.mapping is None or len(self.mapping) < end:
            self.map_whole_file(end)
        return torch.frombuffer(self.mapping, dtype=torch.uint8, count=length, offset=at)

    def map_whole_file(self, end: int) -> None:
        size = os.fstat(self.fd).st_size
        # Touching a page past the end of the file would be SIGBUS, so it is refused here.
        if size < end:
            raise engine_error("memory", f"a region ends at byte {end} but the exchange memory has {size} bytes")
        if self.pinned:
            pinned_memory.unpin(self.mapping)
        self.mapping = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.pinned = self.device.type == "cuda" and pinned_memory.pin(self.mapping)
