"""One worker's copy of what is trained: the task, its model, data set and optimizer, and how they are exchanged."""

from __future__ import annotations

import inspect
from typing import Any, Optional

import torch

from lockstep.batches import SampleReader
from lockstep.bfloat16 import check_addition
from lockstep.buffers import Buffers, separate_elements
from lockstep.commands import Load
from lockstep.device import use_deterministic_kernels
from lockstep.exchange_vector import ExchangeLayout, VectorPool
from lockstep.failures import user_code, user_error
from lockstep.initial_weights import take_initial_weights
from lockstep.model_structure import ModelStructure
from lockstep.named_tensors import shared_names
from lockstep.parameters import ParameterGuard, TrainableSet, all_parameters, check_parameters
from lockstep.prefetch import Prefetch
from lockstep.seeding import seed_for_load
from lockstep.training_modes import TrainingModes
from lockstep.user_code import load_task_class

EXCHANGE_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Replica:
    """Built by the command `load`. Every method of the user's runs after the generators were seeded with the job's seed,
    so a plain script that calls torch.manual_seed(seed) before each begins with the same weights."""

    def __init__(self, load: Load, device: torch.device) -> None:
        self.load = load
        self.device = device
        use_deterministic_kernels(load.deterministic)
        self.task = build_task(load, device)
        self.model = build_model(self.task, load.seed, device)
        self.named = all_parameters(self.model)
        check_parameters(self.named)
        if load.init_from is not None:
            take_initial_weights(self.model, load.init_from)
        self.shared_names = shared_names(self.model)
        self.samples = build_dataset(self.task, load.seed)
        self.optimizer = build_optimizer(self.task, self.model, load.seed)
        self.trainable = TrainableSet(self.named)
        self.buffers = Buffers(self.model)
        self.modes = TrainingModes(self.model)
        self.guard = ParameterGuard(self.model)
        self.structure = ModelStructure(self.model)
        self.pool = self.make_pool(EXCHANGE_TYPES[load.exchange])
        self.layout = self.pool.layout
        # Where a reduced vector becomes fp32.
        self.reduced_pool = self.pool if load.exchange == "fp32" else self.make_pool(torch.float32)
        if load.exchange == "bf16":
            check_addition(device)
        # Seen in the first step, whose gradients are copies; None before it.
        self.keeps_gradients: Optional[bool] = None
        self.prefetch = Prefetch(self)
        self.trainable.clear_gradients()

    def make_pool(self, gradient_type: torch.dtype) -> VectorPool:
        return VectorPool(ExchangeLayout(self.trainable.shapes, self.buffers.shapes(), gradient_type), self.device)

    def trainable_scalars(self) -> int:
        return sum(parameter.numel() for parameter in self.trainable.parameters)

    def check_unchanged(self, phase: str) -> None:
        """After the user's code ran: only exchanged buffers may differ. Raises CommandFailed (user)."""
        if not self.structure.is_unchanged():
            self.guard.check_set(phase)
            self.buffers.check_set(phase)
            self.structure.accept()
        self.trainable.check(phase)
        self.guard.check_values(phase)
        self.buffers.check_fixed(phase)


def build_task(load: Load, device: torch.device) -> Any:
    seed_for_load(load.seed)
    task_class = load_task_class(load.bundle, load.task)
    with user_code("import", f"{task_class.__name__}.__init__()"):
        task = task_class.__new__(task_class)
        task.params, task.seed, task.device = load.params, load.seed, device
        task.__init__()
    return task


def build_model(task: Any, seed: int, device: torch.device) -> torch.nn.Module:
    seed_for_load(seed)
    with user_code("model"):
        model = task.model()
    if not isinstance(model, torch.nn.Module):
        raise user_error("model", f"model() returned a {type(model).__name__}, not a torch.nn.Module")
    with user_code("model", f"moving the model to {device.type}"):
        model = model.to(device)
    separate_elements(model)
    return model


def build_dataset(task: Any, seed: int) -> SampleReader:
    seed_for_load(seed)
    with user_code("dataset"):
        dataset = task.dataset()
    for method in ("__len__", "__getitem__"):
        if not hasattr(type(dataset), method):
            raise user_error("dataset", f"dataset() returned a {type(dataset).__name__}, which has no {method}")
    with user_code("dataset", "len(dataset())"):
        length = len(dataset)
    if length == 0:
        raise user_error("dataset", "dataset() is empty")
    return SampleReader(dataset, length)


def build_optimizer(task: Any, model: torch.nn.Module, seed: int) -> torch.optim.Optimizer:
    seed_for_load(seed)
    with user_code("optimizer"):
        optimizer = task.optimizer(model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise user_error("optimizer", f"optimizer() returned a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    if needs_closure(optimizer):
        raise user_error("optimizer", f"{type(optimizer).__name__} evaluates the loss several times a step (a closure), which cannot be exchanged")
    owned = {id(parameter) for parameter in model.parameters()}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in owned:
                raise user_error("optimizer", f"optimizer() holds a tensor of shape {tuple(parameter.shape)} in group {number} that is no parameter of the model")
    return optimizer


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    if isinstance(optimizer, torch.optim.LBFGS):
        return True
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
