"""Which of the model's modules are in training mode: as model() left them, for every microbatch."""

from __future__ import annotations

import torch


class TrainingModes:
    """Remembers each module's mode, because loss() may switch it and a worker that joins later would not know."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.modes = [(module, module.training) for module in model.modules()]

    def restore(self) -> None:
        for module, training in self.modes:
            if module.training is not training:
                module.training = training
