"""The class that a researcher writes: model, data, loss and optimizer."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import torch
from torch.utils.data import default_collate


class Task:
    """One training task. Subclass it and define model(), dataset(), loss() and optimizer().

    Set before __init__ runs:
        params: the job file's `params`, a dict of plain values.
        seed:   the job file's `seed`, an int.
        device: the torch.device that the model and the batches live on.

    Python's, NumPy's and PyTorch's global generators are seeded anew before each method, and for (seed, step,
    microbatch) before the samples of a microbatch are read. Randomness from them is therefore the same wherever a
    microbatch is computed. State that a task keeps elsewhere (attributes, generators of its own, files) is not carried
    to a worker that joins later, so a loss must not depend on it.
    """

    params: Mapping[str, Any]
    seed: int
    device: torch.device

    def model(self) -> torch.nn.Module:
        """Builds the model. The engine moves it to `device`."""
        raise NotImplementedError

    def dataset(self) -> Any:
        """Returns an object with __len__ and __getitem__(index), and optionally `digest` (text, or a function that
        returns it) that identifies its contents."""
        raise NotImplementedError

    def loss(self, model: torch.nn.Module, batch: Any) -> Any:
        """Returns the loss of one microbatch.

        A scalar tensor counts as the mean over the microbatch's samples. A pair (sum, weight) is a summed loss and the
        count that it is to be divided by (samples, tokens); the step's loss is the sum of sums over the sum of weights.
        """
        raise NotImplementedError

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Builds the optimizer over the model's parameters. No schedulers: define lr() instead."""
        raise NotImplementedError

    def collate(self, samples: Sequence[Any]) -> Any:
        """Makes one batch of a microbatch's samples. The default stacks them as a PyTorch DataLoader does."""
        return default_collate(list(samples))

    def lr(self, step: int) -> Optional[float]:
        """The learning rate of a step, set on every parameter group, times the group's own `lr_scale` if it has one.
        None leaves the optimizer's own."""
        return None

    def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
        """Measures the model: a name and a finite number each. Called with the model in eval mode, without gradients."""
        return {}

    def finish(self, model: torch.nn.Module) -> None:
        """Called once after the last step, for example to print a sample."""
