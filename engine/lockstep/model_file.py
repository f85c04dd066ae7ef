"""The command `export_model`: the trained model as a safetensors file that any tool can open."""

from __future__ import annotations

import hashlib
import os
from typing import Dict, Tuple

import torch

from lockstep.failures import user_error
from lockstep.replica import Replica
from lockstep.safetensors import make_image
from lockstep.state import weights_digest

FILE_NAME = "model.safetensors"


def export_model(replica: Replica, folder: str) -> Tuple[int, str]:
    """Writes folder/model.safetensors so that a reader sees all of it or nothing. Returns its bytes and sha256."""
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{FILE_NAME}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(fd, "wb") as file:
            written = write_model(replica, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, os.path.join(folder, FILE_NAME))
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(folder)
    return written


def write_model(replica: Replica, file) -> Tuple[int, str]:
    sha256 = hashlib.sha256()
    count = 0
    metadata = {"format": "pt", "weights_digest": weights_digest(replica)}
    for piece in make_image(model_state(replica.model), metadata).pieces():
        sha256.update(piece)
        file.write(piece)
        count += len(piece)
    return count, sha256.hexdigest()


def model_state(model: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """The state_dict. Shared parameters are written under each of their names, so that load_state_dict finds them all."""
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise user_error("model", f"the model's state_dict has {name}, a {type(value).__name__}; only tensors can be saved")
    return state


def sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
