"""The fixed tree in which partials are added: the order of addition belongs to the job, not to its workers."""

from __future__ import annotations

from typing import Callable, Generic, List, Tuple, TypeVar

Value = TypeVar("Value")


class TreeSum(Generic[Value]):
    """Adds leaves pushed from left to right as a binary counter does.

    Equal-sized neighbours are merged at once, and total() merges what is left from the right. That is the tree which
    splits a run of n leaves after the largest power of two below n, with at most log2(n) + 1 values alive.
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

    def total(self) -> Value:
        """The sum of all leaves. At least one was pushed."""
        value = self.stack.pop()[1]
        while self.stack:
            value = self.merge(self.stack.pop()[1], value)
        return value
