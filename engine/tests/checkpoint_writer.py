"""Writes a checkpoint's folder from the image of a state, as docs/checkpoints.md describes it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from typing import Any, Dict


def file_of(header: Dict[str, Any], data: bytes) -> bytes:
    """A safetensors file."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write_checkpoint(path: str, image: bytes, step: int, shards: int = 3) -> Dict[str, Any]:
    """Returns the manifest. Some shards are empty if there are fewer tensors than shards."""
    data_at = 8 + struct.unpack("<Q", image[:8])[0]
    text = image[8:data_at].decode()
    entries = [(name, entry) for name, entry in json.loads(text).items() if name != "__metadata__"]
    entries.sort(key=lambda item: item[1]["data_offsets"])
    os.mkdir(path)
    facts, at = [], 0
    for number in range(shards):
        part = entries[len(entries) * number // shards : len(entries) * (number + 1) // shards]
        end = part[-1][1]["data_offsets"][1] if part else at
        header = {name: {**entry, "data_offsets": [offset - at for offset in entry["data_offsets"]]} for name, entry in part}
        content = file_of(header, image[data_at + at : data_at + end])
        name = f"shard-{number:05}-of-{shards:05}.safetensors"
        with open(os.path.join(path, name), "wb") as file:
            file.write(content)
        sha256 = hashlib.sha256(content).hexdigest()
        facts.append({"file": name, "bytes": len(content), "sha256": sha256, "at": data_at + at, "length": end - at})
        at = end
    state = {"bytes": len(image), "sha256": hashlib.sha256(image).hexdigest(), "header": text}
    manifest = {
        "format": "lockstep checkpoint", "version": 1, "job": "j1", "name": "test", "step": step, "epoch": 0, "step_of_epoch": step,
        "spec": {}, "spec_digest": "0" * 64, "dataset": {"digest": "0" * 64, "length": 40}, "torch": "", "fingerprint": "0" * 64,
        "loss": None, "samples_lost": 0, "samples_repeated": 0, "created_ms": 0, "state": state, "shards": facts,
    }
    write_manifest(path, manifest)
    return manifest


def write_manifest(path: str, manifest: Any) -> None:
    """The last member is the sha256 of all bytes before it."""
    body = json.dumps(manifest, indent=2).encode()[: -len("\n}")]
    digest = hashlib.sha256(body).hexdigest()
    with open(os.path.join(path, "manifest.json"), "wb") as file:
        file.write(body + f',\n  "digest": "{digest}"\n}}\n'.encode())
