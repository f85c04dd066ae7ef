"""The commands `evaluate` and `finish`: the user's code looks at the model and must leave it as it was."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator

import torch

from lockstep.failures import user_code, user_error
from lockstep.replica import Replica
from lockstep.seeding import seed_for

# As many, and as long (in units of UTF-16), as the daemon takes.
MOST_METRICS = 256
LONGEST_NAME = 128


def evaluate(replica: Replica) -> Dict[str, float]:
    with looking_only(replica, "evaluate"), user_code("evaluate"):
        metrics = replica.task.evaluate(replica.model)
    return checked_metrics(metrics)


def finish(replica: Replica) -> None:
    with looking_only(replica, "finish"), user_code("finish"):
        replica.task.finish(replica.model)


@contextmanager
def looking_only(replica: Replica, phase: str) -> Iterator[None]:
    """The model in eval mode, without gradients. Afterwards modes and exchanged buffers are put back, and parameters
    and other buffers must not have changed."""
    # The user's code may read its data set here.
    replica.prefetch.forget()
    seed_for(phase, replica.load.seed)
    replica.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        replica.modes.restore()
        replica.buffers.reset()
        replica.trainable.clear_gradients()
    replica.check_unchanged(phase)


def checked_metrics(metrics: Any) -> Dict[str, float]:
    if metrics is None:
        return {}
    if not isinstance(metrics, dict):
        raise user_error("evaluate", f"evaluate() returned a {type(metrics).__name__}, not a dict")
    if len(metrics) > MOST_METRICS:
        raise user_error("evaluate", f"evaluate() returned {len(metrics)} metrics; at most {MOST_METRICS} can be reported")
    return {checked_name(name): checked_number(name, value) for name, value in metrics.items()}


def checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise user_error("evaluate", f"evaluate() returned a metric whose name is {name!r}, not a text")
    length = len(name.encode("utf-16-le", "surrogatepass")) // 2
    if length > LONGEST_NAME:
        raise user_error("evaluate", f"evaluate() returned a metric whose name has {length} characters; at most {LONGEST_NAME} can be reported")
    return name


def checked_number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise user_error("evaluate", f"evaluate() returned {name} = a {type(value).__name__}, not a number") from None
    if not math.isfinite(number):
        raise user_error("evaluate", f"evaluate() returned {name} = {number}; metrics must be finite")
    return number
