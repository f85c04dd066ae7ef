"""The device that an engine computes on, and the settings that make its arithmetic the same in every engine."""

from __future__ import annotations

import os
import time
import warnings
from typing import Callable, Dict, Optional

import torch

# The driver takes up to a millisecond to say how much memory is used, and people do not look more often.
MEMORY_LOOK_SECONDS = 1.0

# The first generation of GPUs that computes with bfloat16.
AMPERE = (8, 0)


def fix_arithmetic() -> None:
    """Before CUDA is first used. Whatever of it a job may change is set again when the job is loaded."""
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it is first used.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    with warnings.catch_warnings():
        # Newer versions of PyTorch have other names for these, which older ones do not know.
        warnings.simplefilter("ignore")
        # "fp32" is to mean fp32: PyTorch's own default rounds the inputs of convolutions to 10 bits, but not those of matrix products.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    use_deterministic_kernels(True)


def use_deterministic_kernels(deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    # Benchmarking picks kernels by their speed on the day, and so differs between workers.
    torch.backends.cudnn.benchmark = not deterministic


def choose_device(gpu: int) -> torch.device:
    """The CUDA device of that number, counted round those that there are, as this process's current one; the CPU without any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", gpu % torch.cuda.device_count())
    # Streams, and what the user's code calls "cuda", are then this device's.
    torch.cuda.set_device(device)
    return device


class DeviceMemory:
    """How much of a GPU's memory is used, in bytes, by whomever: asked for at most once in MEMORY_LOOK_SECONDS. None on the CPU."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self.device = device
        self.clock = clock
        self.looked = float("-inf")
        self.newest: Optional[Dict[str, int]] = None

    def look(self) -> Optional[Dict[str, int]]:
        now = self.clock()
        if self.device.type == "cuda" and now - self.looked >= MEMORY_LOOK_SECONDS:
            free, total = torch.cuda.mem_get_info(self.device)
            self.looked, self.newest = now, {"used": total - free, "total": total}
        return self.newest


def computes_in_bfloat16(device: torch.device) -> bool:
    return device.type == "cpu" or torch.cuda.get_device_capability(device) >= AMPERE


def wait_for(device: torch.device) -> None:
    """Returns when all that this process has asked of the device is done, or raises what went wrong with it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
