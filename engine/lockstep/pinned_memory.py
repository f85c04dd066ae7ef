"""Makes mapped memory a place that CUDA copies to and from while the processor does something else."""

from __future__ import annotations

import mmap
from typing import Any

import torch


def pin(mapping: mmap.mmap) -> bool:
    """Registers a mapping with CUDA. False where that is refused: copies then take longer and are waited for."""
    return succeeded(torch.cuda.cudart().cudaHostRegister(address_of(mapping), len(mapping), 0))


def unpin(mapping: mmap.mmap) -> None:
    """Nothing may be under way between the mapping and the device any more."""
    succeeded(torch.cuda.cudart().cudaHostUnregister(address_of(mapping)))


def address_of(mapping: mmap.mmap) -> int:
    return torch.frombuffer(mapping, dtype=torch.uint8).data_ptr()


def succeeded(status: Any) -> bool:
    if int(status) == 0:
        return True
    # CUDA keeps the error of a refused call, and PyTorch would raise it at its next kernel.
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError:
        pass
    return False
