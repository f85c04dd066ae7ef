"""Reads and writes safetensors, strictly. The format: https://github.com/huggingface/safetensors

8 bytes: N, little-endian. N bytes: a JSON object, name -> {dtype, shape, data_offsets}, and optional __metadata__ of
texts. Then the tensors' bytes, which the offsets (relative to here) must cover without a gap or an overlap.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import torch

from lockstep.tensor_bytes import tensor_bytes

HEADER_BYTES_LIMIT = 100_000_000
DIMENSIONS_LIMIT = 64
LARGEST_SIZE = 2**63 - 1
TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
TYPES = {name: dtype for dtype, name in TYPE_NAMES.items()}


class BadSafetensors(ValueError):
    """The bytes are not a well-formed safetensors file; the message says where."""


class Entry(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: Tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """`prefix`: the file's bytes before the tensors', of which there are `data_at`. Entries in order of their bytes."""

    entries: Dict[str, Entry]
    metadata: Dict[str, str]
    prefix: bytes

    @property
    def data_at(self) -> int:
        return len(self.prefix)


class Image(NamedTuple):
    """A whole file that is yet to be written: `prefix`, then the bytes of `tensors` in this order."""

    prefix: bytes
    tensors: List[torch.Tensor]

    def size(self) -> int:
        return len(self.prefix) + sum(byte_length(tensor) for tensor in self.tensors)

    def pieces(self) -> Iterator[memoryview]:
        yield memoryview(self.prefix)
        for tensor in self.tensors:
            yield tensor_bytes(tensor)


def load_model(path: str) -> Dict[str, torch.Tensor]:
    """Reads a model that a job left behind; `model.load_state_dict(lockstep.load_model(path))` takes it. No cluster needed.

    path: a .safetensors file. Returns name -> CPU tensor. Raises BadSafetensors (a ValueError) or OSError.
    """
    with open_file(path) as fd:
        header = read_header(fd, os.fstat(fd).st_size)
        return {name: read_tensor(fd, header, entry) for name, entry in header.entries.items()}


@contextmanager
def open_file(path: str) -> Iterator[int]:
    """A descriptor of a regular file. A BadSafetensors that is raised meanwhile gets the path in front."""
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadSafetensors("this is not a regular file")
        yield fd
    except BadSafetensors as error:
        raise BadSafetensors(f"{path}: {error}") from None
    finally:
        os.close(fd)


def make_image(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Image:
    """The same tensors and metadata always give the same bytes. The tensors are not copied."""
    # Widest types first: then every tensor is aligned to its own type, and readers can map the file.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    return Image(header_bytes(tensors, metadata, order), [tensors[name] for name in order])


def byte_length(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def header_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], order: List[str]) -> bytes:
    body: Dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in TYPE_NAMES:
            raise ValueError(f"tensor {name} is {tensor.dtype}, which safetensors files do not hold")
        end = at + byte_length(tensor)
        body[name] = {"dtype": TYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_header(fd: int, size: int) -> Header:
    """Reads and checks everything but the tensors' bytes. `size`: how long the whole file is."""
    if size < 8:
        raise BadSafetensors(f"{size} bytes are too few for a safetensors file")
    prefix = read_exactly(fd, 0, 8)
    (length,) = struct.unpack("<Q", prefix)
    if length > HEADER_BYTES_LIMIT:
        raise BadSafetensors(f"the header claims {length} bytes; at most {HEADER_BYTES_LIMIT} are allowed{hint(prefix)}")
    if 8 + length > size:
        raise BadSafetensors(f"the header claims {length} bytes but the file has {size}{hint(prefix)}")
    return checked_header(prefix + read_exactly(fd, 8, length), size)


def hint(prefix: bytes) -> str:
    # A zip archive, or the opcode that begins a pickle and its protocol: what torch.save writes, new and old.
    if prefix.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "; it looks like a file that torch.save wrote (a pickle), not like safetensors"
    return ""


def checked_header(prefix: bytes, size: int) -> Header:
    """`prefix`: the length and the JSON text behind it. `size`: how long the whole file is."""
    body = parse_header(prefix[8:])
    metadata = checked_metadata(body.pop("__metadata__", {}))
    entries = sorted((checked_entry(name, value) for name, value in body.items()), key=lambda entry: (entry.begin, entry.end))
    check_cover(entries, size - len(prefix))
    return Header({entry.name: entry for entry in entries}, metadata, prefix)


def parse_header(text: bytes) -> Dict[str, Any]:
    if not text.startswith(b"{"):
        raise BadSafetensors("the header does not begin with '{'; this is not a safetensors file")
    try:
        body = json.loads(text.decode("utf-8"), object_pairs_hook=object_without_repeats)
    except BadSafetensors:
        raise
    except (ValueError, RecursionError) as error:
        raise BadSafetensors(f"the header is not JSON: {error}") from None
    return body


def object_without_repeats(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise BadSafetensors("the header names a key twice")
    return result


def checked_metadata(value: Any) -> Dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BadSafetensors("__metadata__ is not an object of texts")
    return value


def checked_entry(name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise BadSafetensors(f"tensor {name!r} does not have exactly dtype, shape and data_offsets")
    if not isinstance(value["dtype"], str) or value["dtype"] not in TYPES:
        raise BadSafetensors(f"tensor {name!r} has the unknown dtype {value['dtype']!r}")
    dtype, shape, offsets = TYPES[value["dtype"]], value["shape"], value["data_offsets"]
    if not is_list_of_sizes(shape) or len(shape) > DIMENSIONS_LIMIT:
        raise BadSafetensors(f"tensor {name!r} has a shape that is not a list of at most {DIMENSIONS_LIMIT} sizes")
    if not is_list_of_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadSafetensors(f"tensor {name!r} has data_offsets that are not [begin, end]")
    size = byte_count(name, shape, torch.empty(0, dtype=dtype).element_size())
    if offsets[1] - offsets[0] != size:
        raise BadSafetensors(f"tensor {name!r} needs {size} bytes but its data_offsets span {offsets[1] - offsets[0]}")
    return Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def is_list_of_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= LARGEST_SIZE for item in value)


def byte_count(name: str, shape: List[int], element_bytes: int) -> int:
    # Sizes of zero are left out of the overflow check's product: the strides of such a tensor overflow all the same.
    strides = element_bytes
    count = element_bytes
    for size in shape:
        strides *= max(size, 1)
        count *= size
    if strides > LARGEST_SIZE:
        raise BadSafetensors(f"tensor {name!r} has a shape whose size overflows")
    return count


def check_cover(entries: List[Entry], data_bytes: int) -> None:
    """`entries`: in order of their bytes."""
    at = 0
    for entry in entries:
        if entry.begin < at:
            raise BadSafetensors(f"tensor {entry.name!r} overlaps another one")
        if entry.begin > at:
            raise BadSafetensors(f"there is a gap of {entry.begin - at} bytes before tensor {entry.name!r}")
        at = entry.end
    if at > data_bytes:
        raise BadSafetensors(f"the file is truncated: the tensors need {at} bytes and {data_bytes} are there")
    if at < data_bytes:
        raise BadSafetensors(f"{data_bytes - at} bytes follow the last tensor")


def read_tensor(fd: int, header: Header, entry: Entry) -> torch.Tensor:
    # The user's code may have made another device the default one.
    tensor = torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
    if tensor.numel():
        view = tensor_bytes(tensor)
        at = header.data_at + entry.begin
        while view:
            count = os.preadv(fd, [view], at)
            if count == 0:
                raise BadSafetensors(f"the file ends inside tensor {entry.name!r}")
            view, at = view[count:], at + count
    if entry.dtype is torch.bool and tensor.numel() and int(tensor.view(torch.uint8).max()) > 1:
        raise BadSafetensors(f"tensor {entry.name!r} is BOOL but holds bytes other than 0 and 1")
    return tensor


def read_exactly(fd: int, at: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = os.pread(fd, count, at)
        if not piece:
            raise BadSafetensors("the file ends inside its header")
        pieces.append(piece)
        at, count = at + len(piece), count - len(piece)
    return b"".join(pieces)
