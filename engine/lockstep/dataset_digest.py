"""A digest that tells whether two workers see the same data set, without reading all of it."""

from __future__ import annotations

import hashlib
import struct
from typing import Any, Callable, List

import numpy
import torch

from lockstep.batches import SampleReader
from lockstep.failures import user_code, user_error
from lockstep.seeding import seed_for
from lockstep.tensor_bytes import tensor_bytes

SAMPLES = 64


def dataset_digest(reader: SampleReader) -> str:
    """sha256 over the length and the data set's own `digest`, or, without one, over 64 evenly spaced samples."""
    sha256 = hashlib.sha256(struct.pack("<Q", reader.length))
    own = getattr(reader.dataset, "digest", None)
    if own is not None:
        sha256.update(own_digest(own).encode("utf-8"))
    else:
        for index in evenly_spaced(reader.length):
            add_sample(sha256.update, reader, index)
    return sha256.hexdigest()


def own_digest(own: Any) -> str:
    with user_code("dataset", "digest() of the data set"):
        value = own() if callable(own) else own
    if not isinstance(value, str):
        raise user_error("dataset", f"the data set's digest is a {type(value).__name__}, not a text")
    return value


def evenly_spaced(length: int) -> List[int]:
    if length <= SAMPLES:
        return list(range(length))
    return [index * (length - 1) // (SAMPLES - 1) for index in range(SAMPLES)]


def add_sample(update: Callable[[bytes], None], reader: SampleReader, index: int) -> None:
    # A fixed seed: the digest is of the data, so random augmentation must not make it depend on the job.
    seed_for("dataset digest", index)
    with user_code("dataset", f"dataset()[{index}]"):
        sample = reader.dataset[index]
    add_value(update, sample)


def add_value(update: Callable[[bytes], None], value: Any) -> None:
    """A canonical encoding: a type, a size, then the content, so that no two different samples look alike."""
    if isinstance(value, torch.Tensor) and value.layout is torch.strided:
        update(f"tensor {value.dtype} {tuple(value.shape)}:".encode())
        update(tensor_bytes(value))
    elif isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind in "biufcSU":
        update(f"array {value.dtype.newbyteorder('<').str} {value.shape}:".encode())
        update(numpy.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes())
    elif value is None or isinstance(value, (bool, int, float)):
        update(f"{type(value).__name__} {value!r}:".encode())
    elif isinstance(value, (str, bytes)):
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        update(f"{type(value).__name__} {len(content)}:".encode() + content)
    elif isinstance(value, (tuple, list)):
        update(f"list {len(value)}:".encode())
        for item in value:
            add_value(update, item)
    elif isinstance(value, dict):
        update(f"dict {len(value)}:".encode())
        for key in sorted(value, key=lambda key: (type(key).__name__, repr(key))):
            add_value(update, key)
            add_value(update, value[key])
    else:
        raise user_error("dataset", f"a sample holds a {type(value).__name__}, which has no canonical bytes; give the data set a `digest`")
