"""The fixed tree in which partials are added: the order of addition belongs to the job, not to its workers."""

from __future__ import annotations

from typing import Callable, Generic, List, Tuple, TypeVar

Value = TypeVar("Value")


class TreeSum(Generic[Value]):
    """Adds leaves from left to right as a binary counter does: all but the last are pushed, and merged at once with a
    neighbour of the same size. That is the tree which splits a run of n leaves after the largest power of two below n, with
    at most log2(n) + 1 values alive.
    """

    def __init__(self, merge: Callable[[Value, Value], Value]) -> None:
        self.merge = merge
        self.stack: List[Tuple[int, Value]] = []

    def push(self, value: Value) -> None:
        leaves = 1
        while self.stack and self.stack[-1][0] == leaves:
            value = self.merge(self.stack.pop()[1], value)
            leaves *= 2
        self.stack.append((leaves, value))

    def pending(self) -> List[Value]:
        """What the last leaf has to its left, from right to left: [a, b, c] stands for the sum c + (b + (a + leaf))."""
        return [value for _, value in reversed(self.stack)]
