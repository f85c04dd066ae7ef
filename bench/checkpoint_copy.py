"""Milliseconds of one memory copy of so many bytes, median of five, with one thread. Prints a number."""

import statistics
import sys
import time

import torch

torch.set_num_threads(1)
source = torch.ones(int(sys.argv[1]) // 4)
target = torch.zeros_like(source)
times = []
for _ in range(5):
    began = time.perf_counter()
    target.copy_(source)
    times.append((time.perf_counter() - began) * 1000)
print(statistics.median(times))
