"""The command `snapshot`: the image of the whole training state, copied once, while training waits."""

from __future__ import annotations

import mmap
import os
from typing import Optional

import torch

from lockstep.replica import Replica
from lockstep.safetensors import Image, byte_length
from lockstep.state import state_image, write_all
from lockstep.tensor_bytes import tensor_bytes

# Linux has it since 5.14, Python has no name for it.
MADV_POPULATE_READ = 22


class SnapshotMemory:
    """A memory file that holds one image. It grows with the image and never shrinks; it is mapped once, and again only when
    it has grown.

    Pages that the file does not have yet are written with pwrite: a fault on a new page of a mapping would zero it first,
    and that takes twice as long. Pages that are there are written through the mapping, which pwrite only slows down.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.mapping: Optional[mmap.mmap] = None

    def hold(self, image: Image) -> None:
        """Replaces what was held. The file is as long as the longest image yet; this one is at its beginning."""
        if image.size() <= self.mapped_bytes():
            self.copy(image)
        else:
            self.write(image)
            self.map_whole_file()

    def mapped_bytes(self) -> int:
        # Touching a page past the end of the file would be SIGBUS, so a file that was cut short is written anew.
        if self.mapping is None or os.fstat(self.fd).st_size < len(self.mapping):
            return 0
        return len(self.mapping)

    def write(self, image: Image) -> None:
        at = 0
        for piece in image.pieces():
            write_all(self.fd, piece, at)
            at += len(piece)

    def map_whole_file(self) -> None:
        self.mapping = mmap.mmap(self.fd, os.fstat(self.fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            # All page table entries at once: the next copy then takes no fault.
            self.mapping.madvise(MADV_POPULATE_READ)
        except OSError:
            pass  # An older kernel.

    def copy(self, image: Image) -> None:
        memory = memoryview(self.mapping)
        at = len(image.prefix)
        memory[:at] = image.prefix
        for tensor in image.tensors:
            end = at + byte_length(tensor)
            if tensor.device.type == "cpu" and tensor.is_contiguous():
                # One memcpy. copy_() takes a fifth longer on one thread, and its threads wait for one another at every tensor.
                memory[at:end] = tensor_bytes(tensor)
            elif tensor.numel():
                # No copy in between, which would take as much memory again.
                self.view(at, tensor).copy_(tensor.detach())
            at = end

    def view(self, at: int, tensor: torch.Tensor) -> torch.Tensor:
        return torch.frombuffer(self.mapping, dtype=tensor.dtype, count=tensor.numel(), offset=at).view(tensor.shape)


def take_snapshot(replica: Replica, memory: SnapshotMemory) -> int:
    """Copies the state's image, the same bytes as export_state's, into the snapshot memory. Returns its bytes."""
    image = state_image(replica)
    memory.hold(image)
    return image.size()
