"""The loop that a researcher writes without Lockstep: one process, one batch, one backward pass a step.

    python3 plain_loop.py PLAN.json

PLAN.json names the task and says which samples each step uses. Prints one JSON object: the loss of every step. Nothing of Lockstep is
imported: the task's `import lockstep` finds the stand-in below.
"""

import importlib.util
import json
import sys
import types

import torch
from torch.utils.data import default_collate


class Task:
    """params, seed and device are set before __init__ runs."""


def load_task(file, class_name, params, seed):
    stand_in = types.ModuleType("lockstep")
    stand_in.Task = Task
    sys.modules["lockstep"] = stand_in
    spec = importlib.util.spec_from_file_location("task", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task_class = getattr(module, class_name)
    task = task_class.__new__(task_class)
    task.params, task.seed, task.device = params, seed, torch.device("cpu")
    task.__init__()
    return task


def train(task, seed, clip_grad_norm, steps):
    torch.manual_seed(seed)
    model = task.model()
    dataset = task.dataset()
    optimizer = task.optimizer(model)
    losses = []
    for step, samples in enumerate(steps):
        optimizer.zero_grad()
        loss = task.loss(model, default_collate([dataset[index] for index in samples]))
        loss.backward()
        if clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = task.lr(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    torch.set_num_threads(1)
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    task = load_task(plan["file"], plan["class"], plan["params"], plan["seed"])
    print(json.dumps({"losses": train(task, plan["seed"], plan["clip_grad_norm"], plan["steps"])}))


main()
