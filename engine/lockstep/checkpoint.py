"""Reads a checkpoint, and verifies all of it. No cluster needed; docs/checkpoints.md describes the files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch

from lockstep.commands import Fields
from lockstep.control import Malformed
from lockstep.failures import CommandFailed
from lockstep.named_tensors import SHARED_KEY, state_dict_name
from lockstep.optimizer_state import METADATA_KEY as OPTIMIZER_KEY
from lockstep.optimizer_state import unpack_optimizer
from lockstep.safetensors import BadSafetensors, Entry, Header, checked_header, open_file, read_exactly, read_header, read_tensor
from lockstep.tensor_bytes import tensor_bytes

MANIFEST = "manifest.json"
FORMAT = "lockstep checkpoint"
VERSION = 1
MANIFEST_BYTES_LIMIT = 256 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


class BadCheckpoint(ValueError):
    """The folder is no whole checkpoint; the message names the file and says what is wrong with it."""


class Checkpoint(NamedTuple):
    """What load_checkpoint returns."""

    model: Dict[str, torch.Tensor]
    optimizer: Dict[str, Any]
    step: int
    manifest: Dict[str, Any]


class Shard(NamedTuple):
    """One file. Its tensors' bytes are those of the image from byte `at` on, `length` of them."""

    file: str
    bytes: int
    sha256: str
    at: int
    length: int


class CheckpointFolder(NamedTuple):
    """A checkpoint whose manifest was read. `image`: the header of the state's image; `shared`: further name -> name of a
    tensor in it."""

    path: str
    manifest: Dict[str, Any]
    sha256: str
    image: Header
    shared: Dict[str, str]
    shards: List[Shard]


def load_checkpoint(path: str) -> Checkpoint:
    """Reads a job's checkpoint, so that plain PyTorch can go on where the job was. No cluster needed.

        checkpoint = lockstep.load_checkpoint("checkpoints/step-000000500")
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)

    path: the folder with manifest.json. Returns a named tuple, all of its tensors on the CPU:
        model:     state_dict name -> tensor, with the shapes and types of the model's own. Every parameter, and every buffer that
                   is persistent; a shared one under each of its names, all of them the same tensor.
        optimizer: what the optimizer's state_dict() was: {"state": {parameter's number: {name: tensor or plain value}},
                   "param_groups": [...]}. PyTorch's load_state_dict casts such tensors to their parameter's type, so an
                   optimizer that keeps others (float32 for bfloat16 parameters) does not go on to the last bit.
        step:      how many steps the state has taken. The next is number `step`, counted from 0 as Task.lr counts.
        manifest:  manifest.json as it is: the job's spec, its epoch, its data set's digest and length, and so on.
    Every file is read once and compared with the sha256 in the manifest before anything is returned. Raises BadCheckpoint or
    BadSafetensors (both are ValueErrors, and name the file), or OSError.
    """
    folder = open_checkpoint(path)
    tensors = dict(read_tensors(folder, lambda name: True))
    model = {}
    for name, tensor in tensors.items():
        model.update({own: tensor for own in state_dict_names(folder, name)})
    try:
        optimizer = unpack_optimizer(folder.image.metadata[OPTIMIZER_KEY], tensors, torch.device("cpu"))
    except CommandFailed as failure:
        raise BadCheckpoint(f"{folder.path}: {failure.message}") from None
    return Checkpoint(model, optimizer, folder.manifest["step"], folder.manifest)


def state_dict_names(folder: CheckpointFolder, image_name: str) -> List[str]:
    """The names in the model's state_dict of one of the image's tensors. None of the optimizer's has any."""
    names = [image_name, *(name for name, stored in folder.shared.items() if stored == image_name)]
    return [own for own in map(state_dict_name, names) if own is not None]


def open_checkpoint(path: str) -> CheckpointFolder:
    """Reads and checks manifest.json. Raises BadCheckpoint or OSError."""
    file = os.path.join(path, MANIFEST)
    if os.path.isdir(path) and not os.path.lexists(file):
        raise BadCheckpoint(f"{path} has no {MANIFEST}, so it is no checkpoint")
    try:
        return checked_manifest(path, read_manifest(file))
    except (BadSafetensors, Malformed) as error:
        raise BadCheckpoint(f"{file}: {error}") from None


def read_manifest(file: str) -> bytes:
    try:
        with open_file(file) as fd:
            size = os.fstat(fd).st_size
            if size > MANIFEST_BYTES_LIMIT:
                raise Malformed(f"{size} bytes are too many for a manifest")
            return read_exactly(fd, 0, size)
    except BadSafetensors as error:
        raise BadCheckpoint(str(error)) from None


def checked_manifest(path: str, text: bytes) -> CheckpointFolder:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is not JSON: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise Malformed(f"its format is not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise Malformed(f"it is of version {manifest.get('version')!r}; this Lockstep reads version {VERSION}")
    check_digest(text)
    Fields(manifest).integer("step")
    state = Fields(Fields(manifest).mapping("state"), "state.")
    image = checked_image(state.text("header"), state.integer("bytes"))
    shards = [checked_shard(number, value) for number, value in enumerate(Fields(manifest).list("shards"))]
    check_runs(shards, image.data_at, state.integer("bytes"))
    return CheckpointFolder(path, manifest, checked_sha256(state), image, checked_shared(image), shards)


def check_digest(text: bytes) -> None:
    """The manifest's last member is the sha256 of every byte before it."""
    body = text[: -len(digest_line(b""))]
    if text != body + digest_line(body):
        raise Malformed("it is damaged or was changed: its digest is not that of its content")


def digest_line(body: bytes) -> bytes:
    return f',\n  "digest": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def checked_image(text: str, size: int) -> Header:
    encoded = text.encode("utf-8", "surrogatepass")
    image = checked_header(struct.pack("<Q", len(encoded)) + encoded, size)
    if OPTIMIZER_KEY not in image.metadata:
        raise Malformed("state.header has no optimizer in its metadata")
    return image


def checked_shared(image: Header) -> Dict[str, str]:
    try:
        shared = json.loads(image.metadata.get(SHARED_KEY, "{}"))
    except (ValueError, RecursionError):
        shared = None
    if not isinstance(shared, dict) or not all(isinstance(name, str) and name in image.entries for name in shared.values()):
        raise Malformed("state.header names shared tensors that it does not have")
    return shared


def checked_sha256(fields: Fields) -> str:
    value = fields.text("sha256")
    if not SHA256.fullmatch(value):
        raise Malformed(f"{fields.where}sha256 is not 64 hexadecimal digits")
    return value


def checked_shard(number: int, value: Any) -> Shard:
    if not isinstance(value, dict):
        raise Malformed(f"shards[{number}] is not an object")
    fields = Fields(value, f"shards[{number}].")
    if not FILE_NAME.fullmatch(fields.text("file")):
        raise Malformed(f"shards[{number}].file is not the name of a file in this folder")
    return Shard(fields.text("file"), fields.integer("bytes"), checked_sha256(fields), fields.integer("at"), fields.integer("length"))


def check_runs(shards: List[Shard], begin: int, end: int) -> None:
    at = begin
    for number, shard in enumerate(shards):
        if shard.at != at:
            raise Malformed(f"shards[{number}].at is {shard.at}, not {at}: the shards' runs must follow one another")
        at += shard.length
    if at != end:
        raise Malformed(f"the shards' runs end at byte {at} of the state, not at {end}")


def read_tensors(folder: CheckpointFolder, wanted: Callable[[str], bool]) -> Iterator[Tuple[str, torch.Tensor]]:
    """The wanted tensors under their names in the image, one at a time. Nothing counts as verified before the last one was
    taken: files and image are hashed on the way. Raises BadCheckpoint, BadSafetensors or OSError."""
    image_sha256 = hashlib.sha256(folder.image.prefix)
    missing = set(folder.image.entries)
    for shard in folder.shards:
        for name, tensor in read_shard(folder, shard, wanted, image_sha256.update):
            missing.discard(name)
            if tensor is not None:
                yield name, tensor
    if missing:
        # A tensor without elements, or its bytes would be missing too.
        raise BadCheckpoint(f"{folder.path}: no shard has tensor {min(missing)!r}")
    if image_sha256.hexdigest() != folder.sha256:
        raise BadCheckpoint(f"{os.path.join(folder.path, MANIFEST)}: the state's sha256 is {image_sha256.hexdigest()}, not {folder.sha256}")


def read_shard(
    folder: CheckpointFolder, shard: Shard, wanted: Callable[[str], bool], update_image: Callable[[Any], None]
) -> Iterator[Tuple[str, Optional[torch.Tensor]]]:
    """All names in one file, with the tensor if it is wanted. Every byte is read once and goes into both hashes."""
    with open_file(os.path.join(folder.path, shard.file)) as fd:
        header = checked_shard_header(folder.image, shard, fd)
        sha256 = hashlib.sha256(header.prefix)
        for entry in header.entries.values():
            tensor = read_tensor(fd, header, entry) if wanted(entry.name) else None
            for piece in stored_bytes(fd, header, entry) if tensor is None else split(tensor_bytes(tensor)):
                sha256.update(piece)
                update_image(piece)
            yield entry.name, tensor
        if sha256.hexdigest() != shard.sha256:
            raise BadSafetensors(f"its sha256 is {sha256.hexdigest()}, not {shard.sha256} as in {MANIFEST}: it was changed or damaged")


def checked_shard_header(image: Header, shard: Shard, fd: int) -> Header:
    size = os.fstat(fd).st_size
    if size != shard.bytes:
        raise BadSafetensors(f"it has {size} bytes, not {shard.bytes} as in {MANIFEST}: it was cut off or changed")
    header = read_header(fd, size)
    if size - header.data_at != shard.length:
        raise BadSafetensors(f"its tensors have {size - header.data_at} bytes, not {shard.length} as in {MANIFEST}")
    for entry in header.entries.values():
        if not is_part_of(image, shard, entry):
            raise BadSafetensors(f"tensor {entry.name!r} is not what and where the state's header says")
    return header


def is_part_of(image: Header, shard: Shard, entry: Entry) -> bool:
    run = shard.at - image.data_at
    return image.entries.get(entry.name) == entry._replace(begin=entry.begin + run, end=entry.end + run)


def split(data: memoryview) -> Iterator[memoryview]:
    # Two hashes go over each piece while it is in the processor's cache.
    for at in range(0, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]


def stored_bytes(fd: int, header: Header, entry: Entry) -> Iterator[bytes]:
    for at in range(entry.begin, entry.end, PIECE_BYTES):
        yield read_exactly(fd, header.data_at + at, min(PIECE_BYTES, entry.end - at))
