"""Makes mapped memory a place that CUDA copies to and from while the processor does something else."""

from __future__ import annotations

import mmap

import torch


def pin(mapping: mmap.mmap) -> bool:
    """Registers a mapping with CUDA. False where that is refused: copies then take longer and are waited for."""
    memory = torch.frombuffer(mapping, dtype=torch.uint8)
    if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), len(mapping), 0)) == 0:
        return True
    forget_last_error()
    return False


def unpin(mapping: mmap.mmap) -> None:
    memory = torch.frombuffer(mapping, dtype=torch.uint8)
    torch.cuda.cudart().cudaHostUnregister(memory.data_ptr())


def forget_last_error() -> None:
    # CUDA keeps the error of a refused call, and PyTorch would raise it at its next kernel.
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError:
        pass
