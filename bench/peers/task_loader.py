"""A task of Lockstep in a Python that has no Lockstep: the peers of the benchmarks train the very same one."""

import importlib.util
import sys
import types

import torch


class Task:
    """params, seed and device are set before __init__ runs."""


def load_task(plan):
    stand_in = types.ModuleType("lockstep")
    stand_in.Task = Task
    sys.modules["lockstep"] = stand_in
    spec = importlib.util.spec_from_file_location("task", plan["file"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task_class = getattr(module, plan["class"])
    task = task_class.__new__(task_class)
    task.params, task.seed, task.device = plan["params"], plan["seed"], torch.device("cpu")
    task.__init__()
    return task
