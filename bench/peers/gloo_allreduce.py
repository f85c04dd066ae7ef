"""One rank of Gloo's all-reduce in bench:allreduce.

    GLOO_SOCKET_IFNAME=DEVICE python3 gloo_allreduce.py RANK SIZE TYPE

Reads one JSON object a line and answers each with one; bench/allreduce_messages.ts documents them. TYPE is the tensor's: float32,
or a shorter one where this PyTorch's Gloo knows it.
"""

import json
import sys
import time
from datetime import timedelta

import torch
from torch import distributed

LIMIT = timedelta(seconds=300)
PERIOD = 13


def partial_pattern(rank):
    return (torch.arange(PERIOD) + 5 * rank).remainder(PERIOD)


class Rank:
    def __init__(self, rank, size, kind):
        self.rank, self.size, self.kind = rank, size, kind
        self.tensor = None

    def hello(self):
        """The store has a port that the kernel chose."""
        if self.rank != 0:
            return {"port": 0}
        self.store = distributed.TCPStore("0.0.0.0", 0, self.size, True, LIMIT, wait_for_workers=False)
        return {"port": self.store.port}

    def join(self, message):
        if self.rank != 0:
            self.store = distributed.TCPStore(message["host"], message["port"], self.size, False, LIMIT)
        distributed.init_process_group("gloo", store=self.store, rank=self.rank, world_size=self.size, timeout=LIMIT)
        return {"done": True}

    def vector_of(self, pattern):
        elements = self.tensor.numel()
        return pattern.to(self.kind).repeat(elements // PERIOD + 1)[:elements]

    def open(self, message):
        self.tensor = torch.zeros(message["elements"], dtype=self.kind)
        return {"done": True}

    def check(self, _):
        self.tensor.copy_(self.vector_of(partial_pattern(self.rank)))
        distributed.all_reduce(self.tensor)
        expected = self.vector_of(sum(partial_pattern(rank) for rank in range(self.size)))
        wrong = int((self.tensor != expected).sum())
        # It is reduced in place, again and again: of anything but zeros the sum would overflow.
        self.tensor.zero_()
        return {"wrong": wrong}

    def reduce(self, message):
        # Of the machine's monotonic clock, as Node's hrtime.
        time.sleep(max(0, message["atNs"] - time.monotonic_ns()) / 1e9)
        began = time.perf_counter()
        distributed.all_reduce(self.tensor)
        return {"ms": (time.perf_counter() - began) * 1000}

    def close(self, _):
        self.tensor = None
        return {"done": True}


def main():
    torch.set_num_threads(1)
    rank = Rank(int(sys.argv[1]), int(sys.argv[2]), getattr(torch, sys.argv[3]))
    for line in iter(sys.stdin.readline, ""):
        message = json.loads(line)
        answer = getattr(rank, message["do"])(message) if message else rank.hello()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
