"""What a backward pass is going to do, read off its graph before it runs."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Set

import torch
from torch.autograd.function import BackwardCFunction

# Looking at a node takes about a microsecond. Beyond this many it would cost more than it can win.
NODES_LIMIT = 20_000


def accumulators(parameters: Sequence[torch.nn.Parameter]) -> List[Any]:
    """The node of each parameter that adds to its `grad`. Hooks that are registered with it run once that is done.

    PyTorch keeps such a node only while something refers to it.
    """
    with torch.enable_grad():
        return [parameter.expand_as(parameter).grad_fn.next_functions[0][0] for parameter in parameters]


def reached(root: torch.Tensor, nodes: Sequence[Any]) -> Optional[Set[int]]:
    """Which of `nodes`, by index, the backward pass from `root` runs; each of them exactly once, whatever uses it.

    None if that cannot be told: a function written in Python may run backward passes of its own, as checkpointing does,
    which add to gradients that seemed to be complete.
    """
    if root.grad_fn is None:
        return None
    seen, waiting = {root.grad_fn}, [root.grad_fn]
    while waiting:
        node = waiting.pop()
        if isinstance(node, BackwardCFunction):
            return None
        for source, _ in node.next_functions:
            if source is not None and source not in seen:
                seen.add(source)
                waiting.append(source)
        if len(seen) > NODES_LIMIT:
            return None
    return {index for index, node in enumerate(nodes) if node in seen}
