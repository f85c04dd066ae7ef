"""The command `apply`: the optimizer's step on the reduced gradient, as a plain PyTorch loop would take it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch

from lockstep.commands import Apply
from lockstep.device import wait_for
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import user_code, user_error
from lockstep.optimizer_state import pack_optimizer
from lockstep.replica import Replica
from lockstep.seeding import seed_for


# Elements that are worked on at once on the processor: a megabyte of fp32.
PIECE = 256 * 1024


@dataclass
class Applied:
    """`grad_norm`: the norm before clipping, None without clipping. `lr`: of the first parameter group."""

    grad_norm: Optional[float]
    lr: float
    skipped: bool


def apply_step(replica: Replica, command: Apply, reduced: ExchangeVector) -> Applied:
    """Takes the reduced vector (in exchange memory, read only) as fp32, divides it by the weight, clips it and applies it."""
    # For lr() as well as for the optimizer.
    seed_for("apply", replica.load.seed, command.step)
    # The user's lr() comes first: if it fails, nothing has changed yet.
    lr = learning_rate(replica, command.step)
    vector = replica.reduced_pool.take()
    try:
        if not take_average(replica, reduced, command.weight, vector):
            return skip_or_fail(replica, command, reduced, lr)
        return apply_average(replica, command, vector, lr)
    finally:
        replica.trainable.clear_gradients()
        replica.reduced_pool.give_back(vector)


def take_average(replica: Replica, reduced: ExchangeVector, weight: float, average: ExchangeVector) -> bool:
    """Whether all of the reduced vector is finite. If so, `average`, on the device, becomes its gradients as fp32, divided by the
    weight, and its other values as they are."""
    if replica.device.type == "cpu":
        return take_average_in_pieces(reduced, weight, average)
    if replica.reduced_pool is replica.pool:
        average.memory.copy_(reduced.memory)
        finite = is_finite(average)
    else:
        # The transfer comes first: the processor would change the type in new memory.
        arrived = replica.pool.take()
        arrived.memory.copy_(reduced.memory)
        finite = is_finite(arrived)
        average.copy_values(arrived)
        replica.pool.give_back(arrived)
    average.gradient_part.div_(weight)
    return finite


def take_average_in_pieces(reduced: ExchangeVector, weight: float, average: ExchangeVector) -> bool:
    """Each piece is looked at, divided and written while it is in the processor's cache."""
    if not all_finite(reduced.rest):
        return False
    average.rest.copy_(reduced.rest)
    count = min(len(reduced.gradient_part), len(average.gradient_part))
    for sums, averages in zip(reduced.gradient_part[:count].split(PIECE), average.gradient_part[:count].split(PIECE)):
        if not all_finite(sums):
            return False
        if sums.dtype is averages.dtype:
            torch.div(sums, weight, out=averages)
        else:
            # The division is one of fp32.
            averages.copy_(sums).div_(weight)
    return True


def is_finite(vector: ExchangeVector) -> bool:
    return all_finite(vector.gradient_part) and all_finite(vector.rest)


def apply_average(replica: Replica, command: Apply, vector: ExchangeVector, lr: Optional[float]) -> Applied:
    replica.trainable.read_gradients(vector.gradients, vector.counters.tolist(), copy=replica.keeps_gradients is not False)
    grad_norm = clip(replica)
    set_learning_rate(replica.optimizer, lr)
    with user_code("apply", f"the step of {type(replica.optimizer).__name__}"):
        replica.optimizer.step()
        # So that the time is that of the step, and a failure is told as its failure.
        wait_for(replica.device)
    if replica.keeps_gradients is None:
        replica.keeps_gradients = keeps_gradients(replica)
    replica.buffers.advance(vector.buffers, command.filled)
    replica.guard.accept()
    return Applied(grad_norm, first_learning_rate(replica.optimizer), skipped=False)


def all_finite(flat: torch.Tensor) -> bool:
    if not len(flat):
        return True
    # The squares' sum carries every NaN and infinity through, and takes half the time. It may also be infinite without them,
    # and BLAS counts to 2^31 only.
    if flat.dtype is torch.float32 and len(flat) <= PIECE and math.isfinite(torch.dot(flat, flat).item()):
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


def keeps_gradients(replica: Replica) -> bool:
    """Whether the optimizer's state has a gradient itself, as that of the last step, which must not change with the next one."""
    gradients = [parameter.grad for parameter in replica.trainable.parameters if parameter.grad is not None]
    places = {gradient.data_ptr() for gradient in gradients if gradient.numel()}
    return any(tensor.data_ptr() in places for tensor in pack_optimizer(replica.optimizer).tensors.values())


def learning_rate(replica: Replica, step: int) -> Optional[float]:
    with user_code("lr"):
        value = replica.task.lr(step)
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):
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
