"""What the model's tensors are called: in its state_dict, where a shared one has several names, and in a state's image."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch

PARAMETER_PREFIX = "parameter."
BUFFER_PREFIX = "buffer."
# The metadata of a state's image has shared_names() as JSON under it, if there are any.
SHARED_KEY = "shared"


class NamedTensor(NamedTuple):
    """A parameter or a persistent buffer, and its names in the state_dict. The image has it under `prefix` and the first one."""

    prefix: str
    names: List[str]
    tensor: torch.Tensor


def named_tensors(model: torch.nn.Module) -> List[NamedTensor]:
    """Every parameter and persistent buffer once, in order of registration."""
    found: Dict[int, NamedTensor] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for prefix, key, tensor in own_tensors(module):
            name = f"{path}.{key}" if path else key
            found.setdefault(id(tensor), NamedTensor(prefix, [], tensor)).names.append(name)
    return list(found.values())


def own_tensors(module: torch.nn.Module) -> List[Tuple[str, str, torch.Tensor]]:
    parameters = [(PARAMETER_PREFIX, key, tensor) for key, tensor in module._parameters.items()]
    buffers = [
        (BUFFER_PREFIX, key, tensor) for key, tensor in module._buffers.items() if key not in module._non_persistent_buffers_set
    ]
    return [entry for entry in parameters + buffers if entry[2] is not None]


def shared_names(model: torch.nn.Module) -> Dict[str, str]:
    """Each further name of a shared tensor -> the name under which the image has it, both as the image writes them."""
    return {
        prefix + name: prefix + names[0] for prefix, names, _ in named_tensors(model) for name in names[1:]
    }


def state_dict_name(image_name: str) -> Optional[str]:
    """The name in the state_dict; None for what is no part of the model."""
    for prefix in (PARAMETER_PREFIX, BUFFER_PREFIX):
        if image_name.startswith(prefix):
            return image_name[len(prefix) :]
    return None
