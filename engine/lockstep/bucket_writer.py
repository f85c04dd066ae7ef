"""How the buckets of a run's sum get to the exchange memory, and when they are announced."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import Callable, Deque, Iterator, Optional, Tuple

import torch

from lockstep.exchange_vector import ExchangeVector

# As in worker/collective/segments.ts.
BUCKET_BYTES = 4 * 1024 * 1024

Announce = Callable[[int], None]


class BucketWriter:
    """On the CPU: the sum is made in the exchange memory itself, so what is final is there.

    `announce` is told how many buckets from the beginning are final in the exchange memory; None: nothing is announced
    before the whole is.
    """

    def __init__(self, announce: Optional[Announce]) -> None:
        self.announce = announce

    @contextmanager
    def working(self) -> Iterator[None]:
        """All that is done to the sum from the last backward pass on is done inside of this."""
        yield

    def write(self, buckets: int) -> None:
        """So many buckets of the sum, more than ever before, are final. Only with `announce`."""
        self.announce(buckets)

    def announce_arrived(self) -> None:
        """Announces what has got to the exchange memory since. Called now and then."""

    def finish(self) -> None:
        """All of the sum is final. Returns when it is in the exchange memory."""


class CudaBucketWriter(BucketWriter):
    """On CUDA: the sum is made on the device, on a stream of its own, and copied on that stream, bucket by bucket.

    The copies do not wait for one another or for the backward pass if the exchange memory is pinned.
    """

    def __init__(self, total: ExchangeVector, target: ExchangeVector, announce: Optional[Announce]) -> None:
        super().__init__(announce)
        self.total = total
        self.target = target
        self.copied = 0
        self.copies: Deque[Tuple[int, torch.cuda.Event]] = deque()
        self.stream = torch.cuda.Stream()
        # The sums so far were made on this thread's stream.
        self.stream.wait_stream(torch.cuda.current_stream())

    @contextmanager
    def working(self) -> Iterator[None]:
        # In a hook the current stream is the one on which the gradient was computed.
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield

    def write(self, buckets: int) -> None:
        self.copy(buckets * BUCKET_BYTES)
        self.copies.append((buckets, self.stream.record_event()))

    def copy(self, end: int) -> None:
        with torch.cuda.stream(self.stream):
            self.target.memory[self.copied : end].copy_(self.total.memory[self.copied : end], non_blocking=True)
        self.copied = end

    def announce_arrived(self) -> None:
        arrived = 0
        while self.copies and self.copies[0][1].query():
            arrived, _ = self.copies.popleft()
        if arrived:
            self.announce(arrived)

    def finish(self) -> None:
        self.copy(len(self.total.memory))
        self.stream.synchronize()
