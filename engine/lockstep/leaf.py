"""One microbatch's gradients, on their way from the backward pass to the microbatch's vector."""

from __future__ import annotations

import torch

from lockstep.exchange_vector import ExchangeVector
from lockstep.parameters import TrainableSet


class Leaf:
    """A leaf of the tree: its vector, which is written once the backward pass has ended."""

    def __init__(self, trainable: TrainableSet, vector: ExchangeVector) -> None:
        self.trainable = trainable
        self.vector = vector

    def backward(self, loss_sum: torch.Tensor) -> None:
        loss_sum.backward()

    def write_gradients(self) -> None:
        """After the backward pass: afterwards every gradient and counter is in the vector."""
        for place, view in enumerate(self.vector.gradients):
            self.trainable.write_gradient(place, view)
        self.trainable.write_counters(self.vector.counters)
