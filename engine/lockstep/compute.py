"""The command `compute`: forward and backward of runs of microbatches, their gradients summed in the job's tree."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Callable, ContextManager, List, Optional, Sequence

import torch

from lockstep.batches import Consumed
from lockstep.bucket_writer import Announce, BucketWriter, CudaBucketWriter
from lockstep.commands import Run
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import engine_error, user_code
from lockstep.last_leaf import LastLeaf
from lockstep.leaf import Leaf
from lockstep.loss_result import LossSum, read_loss
from lockstep.partials import TreeSum
from lockstep.replica import Replica


@dataclass
class Partial:
    """The sums over some microbatches: `vector` in the job's exchange type, `loss` and `weight` in double precision."""

    vector: ExchangeVector
    loss: float
    weight: float


@dataclass
class RunReport:
    """What one run took: ids read (a hash a microbatch), and milliseconds in which it waited for data and did everything else."""

    consumed: List[str] = field(default_factory=list)
    data_ms: float = 0.0
    compute_ms: float = 0.0


def compute_run(
    replica: Replica, step: int, run: Run, target: ExchangeVector, report: RunReport, announce: Optional[Announce] = None,
    tell_progress: Callable[[], None] = lambda: None,
) -> Partial:
    """Computes one run and leaves its sum in `target`, which lies in the exchange memory. `announce` is told of buckets that
    are final there before all of it is; `tell_progress` is called after each microbatch but the last."""
    began = time.perf_counter()
    if run.lo + run.length > replica.load.microbatches:
        raise engine_error("compute", f"the run ends at microbatch {run.lo + run.length} but a step has {replica.load.microbatches}")
    # Buckets may be read before the end; and what comes to lie in a gap is a sum of zeros.
    target.clear_gaps()
    tree = TreeSum(lambda left, right: merge(replica, left, right))
    try:
        for place, ids in enumerate(run.samples[:-1]):
            leaf = Leaf(replica.trainable, vector_for(replica, place, target))
            tree.push(compute_microbatch(replica, step, run.lo + place, ids, leaf, report))
            tell_progress()
        total = compute_last(replica, step, run, tree.pending(), target, report, announce)
    finally:
        replica.buffers.reset()
        replica.trainable.clear_gradients()
    replica.check_unchanged("loss")
    report.compute_ms = (time.perf_counter() - began) * 1000 - report.data_ms
    return total


def vector_for(replica: Replica, place: int, target: ExchangeVector) -> ExchangeVector:
    # Sums keep the left vector, so the first leaf's is where the whole sum ends up.
    return target if replica.device.type == "cpu" and place == 0 else replica.pool.take()


def merge(replica: Replica, left: Partial, right: Partial) -> Partial:
    left.vector.add(right.vector)
    replica.pool.give_back(right.vector)
    return Partial(left.vector, left.loss + right.loss, left.weight + right.weight)


def compute_last(
    replica: Replica, step: int, run: Run, lefts: List[Partial], target: ExchangeVector, report: RunReport,
    announce: Optional[Announce],
) -> Partial:
    """Computes the last microbatch and adds it to those before it: their sums, from right to left."""
    place = run.length - 1
    vector = vector_for(replica, place, target)
    vectors = [vector, *(left.vector for left in lefts)]
    on_cpu = replica.device.type == "cpu"
    writer = BucketWriter(announce) if on_cpu else CudaBucketWriter(vectors[-1], target, announce)
    leaf = LastLeaf(replica.trainable, vector, vectors[1:], writer)
    try:
        last = compute_microbatch(replica, step, run.lo + place, run.samples[place], leaf, report)
        leaf.finish()
    finally:
        # The memory of the gradients and of the vectors is about to be used for something else.
        writer.close()
    total = Partial(target, last.loss, last.weight)
    for left in lefts:
        total = Partial(target, left.loss + total.loss, left.weight + total.weight)
    for used in vectors:
        if used is not target:
            replica.pool.give_back(used)
    return total


def compute_microbatch(
    replica: Replica, step: int, microbatch: int, ids: Sequence[int], leaf: Leaf, report: RunReport
) -> Partial:
    """One leaf of the tree. A microbatch without samples is a leaf of zeros."""
    if not ids:
        leaf.vector.memory.zero_()
        report.consumed.append(Consumed().text())
        return Partial(leaf.vector, 0.0, 0.0)
    began = time.perf_counter()
    read = replica.prefetch.take(step, microbatch, ids)
    report.consumed.append(read.consumed)
    report.data_ms += (time.perf_counter() - began) * 1000
    loss = forward_and_backward(replica, read.batch, len(ids), leaf)
    leaf.write_gradients()
    replica.buffers.write_changes(leaf.vector.buffers)
    return Partial(leaf.vector, loss.sum.item(), loss.weight)


def forward_and_backward(replica: Replica, batch: object, samples: int, leaf: Leaf) -> LossSum:
    replica.modes.restore()
    replica.buffers.reset()
    replica.trainable.clear_gradients()
    with torch.enable_grad():
        with user_code("loss"), precision_context(replica):
            result = replica.task.loss(replica.model, batch)
        loss = read_loss(result, samples)
        with user_code("loss", "the backward pass of loss()"):
            leaf.backward(loss.sum)
    return LossSum(loss.sum.detach(), loss.weight)


def precision_context(replica: Replica) -> ContextManager[object]:
    if replica.load.precision == "fp32":
        return nullcontext()
    return torch.autocast(device_type=replica.device.type, dtype=torch.bfloat16)
