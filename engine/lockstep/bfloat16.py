"""bfloat16 arithmetic must give the same bits here as in the daemons, which add partials too."""

from __future__ import annotations

import torch

from lockstep.failures import engine_error

# Odd and without a factor in common with the number of finite values, so that multiples of it visit them all.
STRIDE = 40507


def rounded_bits(values: torch.Tensor) -> torch.Tensor:
    """int16 bits of the bfloat16 nearest to each fp32 value that is not NaN; ties go to the even one. Subnormals are kept."""
    bits = values.view(torch.int32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(torch.int16)


def check_addition(device: torch.device) -> None:
    """Raises CommandFailed (engine) where PyTorch does not add bfloat16 as fp32 with one rounding at the end.

    Processors with instructions for bfloat16 take subnormal numbers for zero, and a PyTorch that used them would do so too.
    """
    every = torch.arange(-(2**15), 2**15, device=device).to(torch.int16).view(torch.bfloat16)
    left = every[torch.isfinite(every)]
    right = left[torch.arange(len(left), device=device) * STRIDE % len(left)]
    total = left.float() + right.float()
    for found in (left.clone().add_(right), total.to(torch.bfloat16)):
        if not torch.equal(found.view(torch.int16), rounded_bits(total)):
            raise engine_error("load", "this PyTorch rounds bfloat16 in another way than Lockstep; use exchange: fp32")
