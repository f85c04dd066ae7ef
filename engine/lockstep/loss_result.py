"""What the user's loss() may return, made into a sum that can be added up and a weight."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from lockstep.failures import user_error


class LossSum(NamedTuple):
    """`sum`: scalar tensor with a gradient, float32 or wider. `weight`: what the sum of all sums is divided by."""

    sum: torch.Tensor
    weight: float


def read_loss(result: Any, samples: int) -> LossSum:
    """Raises CommandFailed (user) that says what is wrong with the value."""
    if isinstance(result, tuple):
        if len(result) != 2:
            raise user_error("loss", f"loss() returned {len(result)} values; return a scalar tensor or (sum, weight)")
        return LossSum(checked_scalar(result[0], "the sum that loss() returned"), checked_weight(result[1]))
    mean = checked_scalar(result, "what loss() returned")
    # A loss without a weight is a mean over the samples, as PyTorch's losses are.
    return LossSum(mean * samples, float(samples))


def checked_scalar(value: Any, what: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise user_error("loss", f"{what} is a {type(value).__name__}, not a tensor")
    if value.numel() != 1:
        raise user_error("loss", f"{what} has shape {tuple(value.shape)}, not a single number")
    if not value.is_floating_point():
        raise user_error("loss", f"{what} is {value.dtype}, not a floating-point number")
    if not value.requires_grad:
        raise user_error("loss", f"{what} has no gradient: it does not depend on a trainable parameter")
    scalar = value.reshape(())
    return scalar if scalar.dtype in (torch.float32, torch.float64) else scalar.float()


def checked_weight(value: Any) -> float:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise user_error("loss", f"the weight that loss() returned has shape {tuple(value.shape)}, not a single number")
        value = value.item()
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise user_error("loss", f"the weight that loss() returned is a {type(value).__name__}, not a number") from None
    if not math.isfinite(weight) or weight <= 0:
        raise user_error("loss", f"the weight that loss() returned is {weight}; it must be a finite number above zero")
    return weight
