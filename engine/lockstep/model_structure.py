"""Whether a model still consists of the same modules, parameters and buffers, seen in a few microseconds."""

from __future__ import annotations

from operator import is_not
from typing import List, Tuple

import torch

# The dictionaries of a module that hold what it consists of.
HOLDERS = ("_modules", "_parameters", "_buffers")


def held_by(module: torch.nn.Module, holder: str) -> Tuple[tuple, tuple]:
    """Names and values. A scripted module's holders are no dictionaries, and have only their methods."""
    held = getattr(module, holder)
    return tuple(held.keys()), tuple(held.values())


class ModelStructure:
    """Remembers what every module holds. PyTorch's own walk through a model takes a hundred times as long, in every microbatch."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.held: List[Tuple[torch.nn.Module, str, tuple, tuple]] = []
        self.accept()

    def accept(self) -> None:
        """What there is now is what is looked for from now on."""
        self.held = [
            (module, holder, *held_by(module, holder))
            for module in self.model.modules()
            for holder in HOLDERS
        ]

    def is_unchanged(self) -> bool:
        for module, holder, names, values in self.held:
            names_now, values_now = held_by(module, holder)
            if names_now != names or any(map(is_not, values_now, values)):
                return False
        return True
