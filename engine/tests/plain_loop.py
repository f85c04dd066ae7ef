"""The loop that a researcher would write without Lockstep, over the same samples."""

from __future__ import annotations

import importlib.util
import os
from typing import List, NamedTuple, Optional, Sequence

import torch
from engine_path import BUNDLE
from torch.utils.data import default_collate

SEED = 7


class StepResult(NamedTuple):
    loss: float
    grad_norm: Optional[float]
    lr: float


def task_module():
    spec = importlib.util.spec_from_file_location("bundle_task", os.path.join(BUNDLE, "task.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PlainLoop:
    """One process, gradients accumulated by backward() alone, in order."""

    def __init__(self, name: str, clip: Optional[float], precision: str) -> None:
        self.task = getattr(task_module(), name)()
        torch.manual_seed(SEED)
        self.model = self.task.model()
        self.initial = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.data = self.task.dataset()
        self.optimizer = self.task.optimizer(self.model)
        self.clip, self.precision = clip, precision

    def step(self, step: int, samples: Sequence[List[int]]) -> StepResult:
        self.optimizer.zero_grad(set_to_none=True)
        sums, weights, changes = 0.0, 0.0, []
        start = {key: value.clone() for key, value in self.model.named_buffers()}
        for ids in filter(None, samples):
            for key, value in self.model.named_buffers():
                value.copy_(start[key])
            total, weight = self.loss(default_collate([self.data[i] for i in ids]), len(ids))
            total.backward()
            sums, weights = sums + total.item(), weights + float(weight)
            changes.append({key: value.clone().double() for key, value in self.model.named_buffers()})
        self.average_buffers(changes)
        return self.update(step, sums, weights)

    def loss(self, batch, count):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.task.loss(self.model, batch)
        return loss if isinstance(loss, tuple) else (loss * count, count)

    def average_buffers(self, values) -> None:
        for key, buffer in self.model.named_buffers():
            buffer.copy_(torch.stack([value[key] for value in values]).mean(0))

    def update(self, step: int, sums: float, weights: float) -> StepResult:
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(weights)
        norm = None if self.clip is None else torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip).item()
        lr = self.task.lr(step)
        for group in self.optimizer.param_groups if lr is not None else []:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self.optimizer.step()
        return StepResult(sums / weights, norm, self.optimizer.param_groups[0]["lr"])
