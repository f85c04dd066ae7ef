"""The command `compute`: forward and backward of runs of microbatches, their gradients summed in the job's tree."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import ContextManager, List, Sequence

import torch

from lockstep.batches import Consumed, make_batch
from lockstep.commands import Run
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import engine_error, user_code
from lockstep.loss_result import LossSum, read_loss
from lockstep.partials import TreeSum
from lockstep.replica import Replica
from lockstep.seeding import seed_microbatch


@dataclass
class Partial:
    """The sums over some microbatches: `vector` in the job's exchange type, `loss` and `weight` in double precision."""

    vector: ExchangeVector
    loss: float
    weight: float


@dataclass
class RunReport:
    """What one run took: ids read (a hash a microbatch), and milliseconds in data and in everything else."""

    consumed: List[str] = field(default_factory=list)
    data_ms: float = 0.0
    compute_ms: float = 0.0


def compute_run(replica: Replica, step: int, run: Run, target: ExchangeVector, report: RunReport) -> Partial:
    """Computes one run and leaves its sum in `target`, which lies in the exchange memory."""
    began = time.perf_counter()
    if run.lo + run.length > replica.load.microbatches:
        raise engine_error("compute", f"the run ends at microbatch {run.lo + run.length} but a step has {replica.load.microbatches}")
    on_cpu = replica.device.type == "cpu"
    tree = TreeSum(lambda left, right: merge(replica, left, right))
    try:
        for place, ids in enumerate(run.samples):
            # Merges keep the left vector, so the first leaf's vector is where the whole sum ends up.
            vector = target if on_cpu and place == 0 else replica.pool.take()
            tree.push(compute_microbatch(replica, step, run.lo + place, ids, vector, report))
        total = tree.total()
    finally:
        replica.buffers.reset()
        replica.trainable.clear_gradients()
    replica.check_unchanged("loss")
    if on_cpu:
        target.clear_gaps()
    else:
        target.memory.copy_(total.vector.memory)
        replica.pool.give_back(total.vector)
    report.compute_ms = (time.perf_counter() - began) * 1000 - report.data_ms
    return total


def merge(replica: Replica, left: Partial, right: Partial) -> Partial:
    left.vector.add(right.vector)
    replica.pool.give_back(right.vector)
    return Partial(left.vector, left.loss + right.loss, left.weight + right.weight)


def compute_microbatch(
    replica: Replica, step: int, microbatch: int, ids: Sequence[int], vector: ExchangeVector, report: RunReport
) -> Partial:
    """One leaf of the tree. A microbatch without samples is a leaf of zeros."""
    consumed = Consumed()
    if not ids:
        vector.memory.zero_()
        report.consumed.append(consumed.text())
        return Partial(vector, 0.0, 0.0)
    began = time.perf_counter()
    seed_microbatch(replica.load.seed, step, microbatch)
    batch = make_batch(replica.task.collate, replica.samples.read(ids, consumed), replica.device)
    report.consumed.append(consumed.text())
    report.data_ms += (time.perf_counter() - began) * 1000
    loss = forward_and_backward(replica, batch, len(ids))
    replica.trainable.write_gradients(vector.gradients, vector.counters)
    replica.buffers.write_changes(vector.buffers)
    return Partial(vector, loss.sum.item(), loss.weight)


def forward_and_backward(replica: Replica, batch: object, samples: int) -> LossSum:
    replica.modes.restore()
    replica.buffers.reset()
    replica.trainable.clear_gradients()
    with torch.enable_grad():
        with user_code("loss"), precision_context(replica):
            result = replica.task.loss(replica.model, batch)
        loss = read_loss(result, samples)
        with user_code("loss", "the backward pass of loss()"):
            loss.sum.backward()
    return LossSum(loss.sum.detach(), loss.weight)


def precision_context(replica: Replica) -> ContextManager[object]:
    if replica.load.precision == "fp32":
        return nullcontext()
    return torch.autocast(device_type=replica.device.type, dtype=torch.bfloat16)
