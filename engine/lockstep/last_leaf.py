"""The last microbatch of a run, added to those before it while its backward pass still runs."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

import torch

from lockstep.backward_graph import accumulators, reached
from lockstep.bucket_writer import BUCKET_BYTES, BucketWriter
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import user_error
from lockstep.leaf import Leaf
from lockstep.parameters import TrainableSet


class Written(NamedTuple):
    """The gradient that a view of the vector holds, None for zeros, and the version that it had."""

    gradient: Optional[torch.Tensor]
    version: int


class LastLeaf(Leaf):
    """Takes each gradient when it is final, and adds whole buckets of them to the sum in the order of the tree.

    `lefts` are what TreeSum.pending() says. The sum ends up in the last of them, or in the leaf's own vector if there are
    none. Whatever is out of the ordinary only means that the rest is added at the end: a bucket that was handed to `writer`
    never changes.
    """

    def __init__(
        self, trainable: TrainableSet, vector: ExchangeVector, lefts: List[ExchangeVector], writer: BucketWriter
    ) -> None:
        super().__init__(trainable, vector)
        self.lefts = lefts
        self.writer = writer
        self.part = vector.layout.gradients
        self.written: Dict[int, Written] = {}
        self.watching = True
        # Gradients that are written without a gap from the first on, and elements and buckets that are added up.
        self.in_a_row = 0
        self.added = 0
        self.buckets = 0

    def backward(self, loss_sum: torch.Tensor) -> None:
        nodes = accumulators(self.trainable.parameters) if self.may_announce() else []
        places = reached(loss_sum, nodes) if nodes else None
        if places is None:
            loss_sum.backward()
            return
        with self.writer.working():
            for place in range(len(nodes)):
                if place not in places:
                    self.write(place)
        hooks = [nodes[place].register_hook(lambda *_, place=place: self.arrived(place)) for place in places]
        try:
            loss_sum.backward()
        finally:
            for hook in hooks:
                hook.remove()

    def may_announce(self) -> bool:
        # Gradients that are there already are of a backward pass that loss() ran itself.
        untouched = all(parameter.grad is None for parameter in self.trainable.parameters)
        return self.writer.announce is not None and self.part.bytes >= BUCKET_BYTES and untouched

    def arrived(self, place: int) -> None:
        """Called in the backward pass, on CUDA in a thread of PyTorch's: the node that adds to this gradient has run."""
        gradient = self.trainable.parameters[place].grad
        if place in self.written or gradient is None or gradient.layout is not torch.strided:
            self.watching = False
        if not self.watching:
            return
        with self.writer.working():
            self.write(place)
            self.add_whole_buckets()

    def write(self, place: int) -> None:
        gradient = self.trainable.parameters[place].grad
        self.trainable.write_gradient(place, self.vector.gradients[place])
        self.written[place] = Written(gradient, 0 if gradient is None else gradient._version)

    def add_whole_buckets(self) -> None:
        spans = self.part.spans
        while self.in_a_row < len(spans) and self.in_a_row in self.written:
            self.in_a_row += 1
        end = self.part.elements if self.in_a_row == len(spans) else spans[self.in_a_row].begin
        buckets = end * self.part.element_bytes // BUCKET_BYTES
        if buckets > self.buckets:
            self.buckets = buckets
            self.add_gradients(buckets * BUCKET_BYTES // self.part.element_bytes)
            self.writer.write(buckets)
        self.writer.announce_arrived()

    def add_gradients(self, end: int) -> None:
        """Adds up the elements of the gradients before `end`."""
        right = self.vector.gradient_part[self.added : end]
        for left in self.lefts:
            right = left.gradient_part[self.added : end].add_(right)
        self.added = end

    def write_gradients(self) -> None:
        for place, span in enumerate(self.part.spans):
            if self.is_written(place):
                continue
            if span.begin < self.added and span.count:
                name = self.trainable.named[place].name
                raise user_error("loss", f"a hook changed the gradient of parameter {name} after the backward pass had computed it")
            self.write(place)
        self.trainable.write_counters(self.vector.counters)

    def is_written(self, place: int) -> bool:
        """Whether the vector holds what the gradient is now."""
        gradient, written = self.trainable.parameters[place].grad, self.written.get(place)
        if written is None or written.gradient is not gradient:
            return False
        return gradient is None or gradient._version == written.version

    def finish(self) -> None:
        """Adds up what is left. Afterwards the whole sum is in the exchange memory."""
        with self.writer.working():
            self.add_gradients(self.part.elements)
            right = self.vector.rest
            for left in self.lefts:
                right = left.rest.add_(right)
        self.writer.finish()
