"""The whole training state (parameters, buffers, optimizer) as one safetensors image, and its digests."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Dict, Tuple

import torch

from lockstep.failures import engine_error
from lockstep.named_tensors import BUFFER_PREFIX, PARAMETER_PREFIX, SHARED_KEY
from lockstep.optimizer_state import METADATA_KEY as OPTIMIZER_KEY
from lockstep.optimizer_state import PREFIX as OPTIMIZER_PREFIX
from lockstep.optimizer_state import check_groups, pack_optimizer, restore_optimizer, unpack_optimizer
from lockstep.replica import Replica
from lockstep.safetensors import BadSafetensors, Header, Image, make_image, read_header, read_tensor
from lockstep.tensor_bytes import tensor_bytes


def weights_digest(replica: Replica) -> str:
    """sha256 over the parameters' little-endian bytes in name order; shared parameters once, frozen ones too."""
    sha256 = hashlib.sha256()
    for _, parameter in sorted(replica.named):
        sha256.update(tensor_bytes(parameter))
    return sha256.hexdigest()


def state_image(replica: Replica) -> Image:
    """Equal states give equal bytes. Nothing is copied: the image holds the state's own tensors."""
    packed = pack_optimizer(replica.optimizer)
    metadata = {OPTIMIZER_KEY: packed.tree}
    if replica.shared_names:
        # For those who read a checkpoint without building its model: state_dict has these tensors under more names.
        metadata[SHARED_KEY] = json.dumps(replica.shared_names, sort_keys=True, separators=(",", ":"))
    return make_image({**model_tensors(replica), **packed.tensors}, metadata)


def model_tensors(replica: Replica) -> Dict[str, torch.Tensor]:
    """Parameters and the buffers of the state_dict, under names that cannot collide. Not copies."""
    tensors: Dict[str, torch.Tensor] = {PARAMETER_PREFIX + name: parameter.detach() for name, parameter in replica.named}
    for slot in replica.buffers.persistent():
        tensors[BUFFER_PREFIX + slot.name] = slot.tensor
    return tensors


def state_digest(replica: Replica) -> str:
    """sha256 of the state's image: what export_state reports for the same state."""
    sha256 = hashlib.sha256()
    for piece in state_image(replica).pieces():
        sha256.update(piece)
    return sha256.hexdigest()


def export_state(replica: Replica, fd: int) -> Tuple[int, str]:
    """Writes the image to the state memory, which becomes exactly as long. Returns its bytes and sha256."""
    sha256 = hashlib.sha256()
    at = 0
    for piece in state_image(replica).pieces():
        sha256.update(piece)
        write_all(fd, piece, at)
        at += len(piece)
    os.ftruncate(fd, at)
    return at, sha256.hexdigest()


def write_all(fd: int, piece: memoryview, at: int) -> None:
    while piece:
        count = os.pwrite(fd, piece, at)
        piece, at = piece[count:], at + count


def import_state(replica: Replica, fd: int, size: int) -> None:
    """Takes over the image in the first `size` bytes of the state memory. Everything is read and checked before
    anything changes. Raises CommandFailed (engine)."""
    present = os.fstat(fd).st_size
    if present < size:
        raise engine_error("import_state", f"the state memory has {present} bytes, not {size}")
    try:
        header = read_header(fd, size)
        check_matches(replica, header)
        tensors = {name: read_tensor(fd, header, entry) for name, entry in header.entries.items()}
    except BadSafetensors as error:
        raise engine_error("import_state", f"the state is damaged: {error}") from None
    optimizer = unpack_optimizer(header.metadata[OPTIMIZER_KEY], tensors, replica.device)
    check_groups(replica.optimizer, optimizer)
    take_over(replica, tensors)
    restore_optimizer(replica.optimizer, optimizer)


def check_matches(replica: Replica, header: Header) -> None:
    if OPTIMIZER_KEY not in header.metadata:
        raise engine_error("import_state", "the state has no optimizer in its metadata")
    ours = model_tensors(replica)
    theirs = {name: entry for name, entry in header.entries.items() if not name.startswith(OPTIMIZER_PREFIX)}
    if ours.keys() != theirs.keys():
        name = sorted(ours.keys() ^ theirs.keys())[0]
        raise engine_error("import_state", f"the state is of another model: {name} is only in {'this model' if name in ours else 'the state'}")
    for name, tensor in ours.items():
        if tuple(tensor.shape) != theirs[name].shape or tensor.dtype is not theirs[name].dtype:
            raise engine_error("import_state", f"the state is of another model: {name} is {theirs[name].dtype} {theirs[name].shape} in the state, {tensor.dtype} {tuple(tensor.shape)} here")


@torch.no_grad()
def take_over(replica: Replica, tensors: Dict[str, torch.Tensor]) -> None:
    for name, tensor in model_tensors(replica).items():
        tensor.copy_(tensors[name])
    replica.buffers.accept()
    replica.guard.accept()
