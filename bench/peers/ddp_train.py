"""bench:train's task under DistributedDataParallel and Gloo, on the very samples that Lockstep uses.

    torchrun ddp_train.py PLAN.json

PLAN.json names the task, and the samples of each rank in each step. Rank 0 prints `parameters NUMBER`, one line a step,
`step NUMBER SECONDS` since the epoch, and at the end `loss NUMBER`, of the last step over all ranks. Nothing of Lockstep is imported.
"""

import ctypes
import json
import signal
import sys
import time

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from task_loader import load_task

PR_SET_PDEATHSIG = 1


def seeded(seed, make):
    """As Lockstep's engine seeds the task's methods, so that both begin with the same weights and data."""
    torch.manual_seed(seed)
    return make()


def mean_over_ranks(loss):
    total = loss.detach().clone()
    distributed.all_reduce(total)
    return total.item() / distributed.get_world_size()


def main():
    # Whoever kills the launcher kills its ranks.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    torch.set_num_threads(1)
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    task = load_task(plan)
    model = seeded(plan["seed"], task.model)
    data = seeded(plan["seed"], task.dataset)
    wrapped = DistributedDataParallel(model)
    if plan["ddp_type"] == "float16":
        wrapped.register_comm_hook(None, fp16_compress_hook)
    optimizer = task.optimizer(model)
    if rank == 0:
        print("parameters", sum(parameter.numel() for parameter in model.parameters()), flush=True)
    for step, batch in enumerate(DataLoader(data, batch_sampler=[ranks[rank] for ranks in plan["steps"]])):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(wrapped, batch)
        loss.backward()
        optimizer.step()
        if rank == 0:
            print("step", step, f"{time.time():.6f}", flush=True)
    mean = mean_over_ranks(loss)
    if rank == 0:
        print("loss", mean, flush=True)


if __name__ == "__main__":
    main()
