"""An optimizer's state_dict as tensors plus JSON, and back, without pickle and without a changed bit."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import torch

from lockstep.failures import engine_error, user_code, user_error

PREFIX = "optimizer."
# The metadata of a state's image has the tree under it.
METADATA_KEY = "optimizer"


class Packed(NamedTuple):
    """`tree`: JSON text in which tensors are named; `tensors`: those tensors."""

    tree: str
    tensors: Dict[str, torch.Tensor]


def pack_optimizer(optimizer: torch.optim.Optimizer) -> Packed:
    """Raises CommandFailed (user) that names a value which is neither a tensor nor plain data."""
    with user_code("optimizer", f"state_dict() of {type(optimizer).__name__}"):
        state = optimizer.state_dict()
    packing = Packing(all(p.device.type == "cpu" for group in optimizer.param_groups for p in group["params"]), {})
    tree = encode(state, (), packing)
    return Packed(json.dumps(tree, separators=(",", ":")), packing.tensors)


class Packing(NamedTuple):
    """`on_cpu`: the parameters are on the CPU. `tensors`: what was found so far."""

    on_cpu: bool
    tensors: Dict[str, torch.Tensor]


def encode(value: Any, path: Tuple[str, ...], packing: Packing) -> Any:
    """Plain scalars stand for themselves; everything else is an object with one key that says what it is."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return encode_tensor(value, path, packing)
    if type(value) in (list, tuple):
        return {type(value).__name__: [encode(item, (*path, str(i)), packing) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        # Sorted, because two workers may have created the same entries in another order.
        keys = sorted(value, key=lambda key: (type(key).__name__, key))
        return {"dict": [[encode_key(key, path), encode(value[key], (*path, str(key)), packing)] for key in keys]}
    raise user_error("optimizer", f"the optimizer's {'.'.join(path)} is a {type(value).__name__}, which cannot be saved; use tensors and plain values")


def encode_key(key: Any, path: Tuple[str, ...]) -> Any:
    if type(key) not in (int, str):
        raise user_error("optimizer", f"the optimizer's {'.'.join(path)} has a {type(key).__name__} as a key; use texts or integers")
    return key


def encode_tensor(value: torch.Tensor, path: Tuple[str, ...], packing: Packing) -> Any:
    if value.layout is not torch.strided or value.is_complex():
        raise user_error("optimizer", f"the optimizer's {'.'.join(path)} is a sparse or complex tensor, which cannot be saved")
    # Every state_dict begins with "state" or "param_groups"; the first says nothing that the prefix does not.
    name = PREFIX + ".".join(path[1:] if path[0] == "state" else path)
    while name in packing.tensors:
        name += "'"
    packing.tensors[name] = value
    return {"tensor": name, "cpu": value.device.type == "cpu" and stays_on_cpu(path, packing.on_cpu)}


def stays_on_cpu(path: Tuple[str, ...], on_cpu: bool) -> bool:
    """Of a tensor on the CPU: whether it is there wherever its parameter is. A state has the same bytes on every kind of device, so
    where the parameters are on the CPU this follows PyTorch's load_state_dict, which moves all but the counts of steps."""
    return not on_cpu or path[0] != "state" or path[-1] == "step"


def unpack_optimizer(text: str, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Dict[str, Any]:
    """The state_dict that pack_optimizer was given. Tensors that need not be on the CPU go to `device`."""
    try:
        state = decode(json.loads(text), tensors, device)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise engine_error("import_state", f"the optimizer's state cannot be read: {error!r}") from None
    if not isinstance(state, dict) or not {"state", "param_groups"} <= set(state):
        raise engine_error("import_state", "the optimizer's state has no state or no param_groups")
    return state


def decode(node: Any, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Any:
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        tensor = tensors[node["tensor"]]
        return tensor if node["cpu"] else tensor.to(device)
    if "dict" in node:
        return {key: decode(item, tensors, device) for key, item in node["dict"]}
    kind = "list" if "list" in node else "tuple"
    items = [decode(item, tensors, device) for item in node[kind]]
    return items if kind == "list" else tuple(items)


def check_groups(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raises CommandFailed (engine) unless the state belongs to an optimizer with these parameter groups."""
    here = [len(group["params"]) for group in optimizer.param_groups]
    there = [len(group["params"]) for group in state["param_groups"]]
    if here != there:
        raise engine_error("import_state", f"the optimizer has parameter groups of {here}, the state has {there}")
    strange = [key for key in state["state"] if isinstance(key, int) and not 0 <= key < sum(here)]
    if strange:
        raise engine_error("import_state", f"the state has an entry for parameter {strange[0]} of {sum(here)}")


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Dict[str, Any]) -> None:
    if loads_in_its_own_way(optimizer):
        with user_code("import_state", f"load_state_dict() of {type(optimizer).__name__}"):
            optimizer.load_state_dict(state)
        return
    # PyTorch's own load_state_dict casts every tensor to its parameter's type; the bits are put back as they were.
    parameters: List[torch.Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    for key, value in state["state"].items():
        optimizer.state[parameters[key] if isinstance(key, int) else key] = value
    for group, saved in zip(optimizer.param_groups, state["param_groups"]):
        own = group["params"]
        group.clear()
        group.update({**saved, "params": own})


def loads_in_its_own_way(optimizer: torch.optim.Optimizer) -> bool:
    kind = type(optimizer)
    plain = torch.optim.Optimizer
    return kind.load_state_dict is not plain.load_state_dict or kind.state_dict is not plain.state_dict
