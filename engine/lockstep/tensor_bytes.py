"""A tensor's elements as little-endian bytes in row-major order."""

from __future__ import annotations

import torch


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of any dense tensor, copied only if it is on another device or not contiguous."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(plain.view(torch.uint8).numpy())
