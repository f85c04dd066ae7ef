"""The command `apply`: the optimizer's step on the reduced gradient, as a plain PyTorch loop would take it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch

from lockstep.commands import Apply
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import user_code, user_error
from lockstep.replica import Replica
from lockstep.seeding import seed_for


@dataclass
class Applied:
    """`grad_norm`: the norm before clipping, None without clipping. `lr`: of the first parameter group."""

    grad_norm: Optional[float]
    lr: float
    skipped: bool


def apply_step(replica: Replica, command: Apply, reduced: ExchangeVector) -> Applied:
    """Takes the reduced vector (in exchange memory, read only) as fp32, divides it by the weight, clips it and applies it."""
    vector = replica.reduced_pool.take()
    try:
        vector.copy_values(reduced)
        return apply_vector(replica, command, vector)
    finally:
        replica.trainable.clear_gradients()
        replica.reduced_pool.give_back(vector)


def apply_vector(replica: Replica, command: Apply, vector: ExchangeVector) -> Applied:
    # The user's lr() comes first: if it fails, nothing has changed yet.
    lr = learning_rate(replica, command.step)
    if not (all_finite(vector.gradient_part) and all_finite(vector.rest)):
        return skip_or_fail(replica, command, vector, lr)
    counters = vector.counters.tolist()
    vector.gradient_part.div_(command.weight)
    replica.trainable.read_gradients(vector.gradients, counters)
    grad_norm = clip(replica)
    set_learning_rate(replica.optimizer, lr)
    seed_for("apply", replica.load.seed, command.step)
    with user_code("apply", f"the step of {type(replica.optimizer).__name__}"):
        replica.optimizer.step()
    replica.buffers.advance(vector.buffers, command.filled)
    replica.guard.accept()
    return Applied(grad_norm, first_learning_rate(replica.optimizer), skipped=False)


def all_finite(flat: torch.Tensor) -> bool:
    if not len(flat):
        return True
    # The extremes carry a NaN through, so one pass without a temporary decides.
    low, high = torch.aminmax(flat)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def skip_or_fail(replica: Replica, command: Apply, vector: ExchangeVector, lr: Optional[float]) -> Applied:
    if replica.load.on_nonfinite == "fail":
        raise user_error("loss", f"{first_nonfinite(replica, vector)} is not finite at step {command.step}")
    return Applied(None, first_learning_rate(replica.optimizer) if lr is None else lr, skipped=True)


def first_nonfinite(replica: Replica, vector: ExchangeVector) -> str:
    for (name, _), view in zip(replica.trainable.named, vector.gradients):
        if not torch.isfinite(view).all():
            return f"the gradient of parameter {name}"
    for slot, view in zip(replica.buffers.exchanged, vector.buffers):
        if not torch.isfinite(view).all():
            return f"the change of buffer {slot.name}"
    return "a counter of the exchange vector"


def clip(replica: Replica) -> Optional[float]:
    limit = replica.load.clip_grad_norm
    if limit is None:
        return None
    return torch.nn.utils.clip_grad_norm_([entry.parameter for entry in replica.named], limit).item()


def learning_rate(replica: Replica, step: int) -> Optional[float]:
    with user_code("lr"):
        value = replica.task.lr(step)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise user_error("lr", f"lr({step}) returned a {type(value).__name__}, not a number") from None
    if not math.isfinite(number) or number < 0:
        raise user_error("lr", f"lr({step}) returned {number}; it must be finite and not negative")
    return number


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: Optional[float]) -> None:
    if lr is None:
        return
    for group in optimizer.param_groups:
        scaled = lr * group.get("lr_scale", 1.0)
        if isinstance(group.get("lr"), torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def first_learning_rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0].get("lr", 0.0))
