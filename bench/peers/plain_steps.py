"""A plain PyTorch loop over the very microbatches that Lockstep computes, gradients accumulated by backward() alone.

    python3 plain_steps.py PLAN.json

PLAN.json names the task and the samples of each microbatch of each step. Prints one line a step as soon as it is done:
`step NUMBER SECONDS`, on the clock of time.monotonic(). Nothing of Lockstep is imported.
"""

import json
import sys
import time

import torch
from torch.utils.data import default_collate

from task_loader import load_task


def main():
    torch.set_num_threads(1)
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    task = load_task(plan)
    torch.manual_seed(plan["seed"])
    model = task.model()
    dataset = task.dataset()
    optimizer = task.optimizer(model)
    for step, microbatches in enumerate(plan["steps"]):
        optimizer.zero_grad(set_to_none=True)
        for samples in microbatches:
            loss = task.loss(model, default_collate([dataset[index] for index in samples]))
            (loss / len(microbatches)).backward()
        if plan["clip_grad_norm"] is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan["clip_grad_norm"])
        for group in optimizer.param_groups:
            group["lr"] = task.lr(step)
        optimizer.step()
        print("step", step, time.monotonic(), flush=True)


main()
