"""The field `init_from` of the command `load`: a new model begins with the weights of a checkpoint or of a finished model."""

from __future__ import annotations

import os
from typing import Dict, List, Mapping, Set

import torch

from lockstep.checkpoint import BadCheckpoint, open_checkpoint, read_tensors, state_dict_names
from lockstep.failures import user_error
from lockstep.named_tensors import NamedTensor, named_tensors
from lockstep.safetensors import BadSafetensors, Entry, open_file, read_header, read_tensor
from lockstep.tensor_bytes import tensor_bytes

PHASE = "init_from"


def take_initial_weights(model: torch.nn.Module, path: str) -> None:
    """Sets every parameter and persistent buffer from `path`: a checkpoint's folder or a .safetensors file with the names of
    the state_dict. Neither may have more, or less. Raises CommandFailed (user) that names the tensor and the file; the model is
    then of no use. Draws no random numbers."""
    try:
        if os.path.isdir(path):
            take_from_checkpoint(model, path)
        else:
            take_from_file(model, path)
    except (BadCheckpoint, BadSafetensors) as error:
        raise user_error(PHASE, str(error)) from None
    except OSError as error:
        raise user_error(PHASE, f"{error.filename or path} cannot be read: {error.strerror}") from None


def take_from_checkpoint(model: torch.nn.Module, path: str) -> None:
    folder = open_checkpoint(path)
    weights = InitialWeights(model, path)
    weights.check({name: entry for entry in folder.image.entries.values() for name in state_dict_names(folder, entry.name)})
    for image_name, tensor in read_tensors(folder, lambda name: bool(state_dict_names(folder, name))):
        for name in state_dict_names(folder, image_name):
            weights.take(name, tensor)


def take_from_file(model: torch.nn.Module, path: str) -> None:
    weights = InitialWeights(model, path)
    with open_file(path) as fd:
        header = read_header(fd, os.fstat(fd).st_size)
        weights.check(header.entries)
        for name, entry in header.entries.items():
            weights.take(name, read_tensor(fd, header, entry))


class InitialWeights:
    """The model's tensors, each of which must be set. A shared one may be given under any of its names, or under several with
    the same values."""

    def __init__(self, model: torch.nn.Module, path: str) -> None:
        self.path = path
        self.named = named_tensors(model)
        self.by_name: Dict[str, NamedTensor] = {name: named for named in self.named for name in named.names}
        self.taken: Set[int] = set()

    def check(self, stored: Mapping[str, Entry]) -> None:
        """Names, shapes and types, before anything is read."""
        for named in self.named:
            for name in named.names:
                if name in stored:
                    self.check_entry(name, named.tensor, stored[name])
        surplus = [name for name in stored if name not in self.by_name]
        for named in self.named:
            if not any(name in stored for name in named.names):
                raise user_error(PHASE, f"{self.path} has no {described(named)}, which the model has{instead(surplus)}")
        if surplus:
            entry = stored[surplus[0]]
            raise user_error(PHASE, f"{self.path} has {surplus[0]} of {shape_and_type(entry.shape, entry.dtype)}, which the model does not have")

    def check_entry(self, name: str, tensor: torch.Tensor, entry: Entry) -> None:
        if tuple(tensor.shape) != entry.shape or tensor.dtype is not entry.dtype:
            raise user_error(
                PHASE, f"{name} is of {shape_and_type(entry.shape, entry.dtype)} in {self.path} "
                f"but of {shape_and_type(tuple(tensor.shape), tensor.dtype)} in the model"
            )

    @torch.no_grad()
    def take(self, name: str, value: torch.Tensor) -> None:
        named = self.by_name[name]
        if id(named.tensor) in self.taken:
            if not same_bits(named.tensor, value):
                raise user_error(PHASE, f"{self.path} has other values under {name} than under another name of it; in the model {' and '.join(named.names)} are one tensor")
            return
        named.tensor.copy_(value)
        self.taken.add(id(named.tensor))


def described(named: NamedTensor) -> str:
    return f"{named.prefix[:-1]} {named.names[0]} of {shape_and_type(tuple(named.tensor.shape), named.tensor.dtype)}"


def instead(surplus: List[str]) -> str:
    return f"; it has {surplus[0]}, which the model does not have" if surplus else ""


def shape_and_type(shape: tuple, dtype: torch.dtype) -> str:
    return f"shape {shape} and type {str(dtype).replace('torch.', '')}"


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    # As bytes, because a NaN is not equal to itself.
    return tensor_bytes(left) == tensor_bytes(right)
